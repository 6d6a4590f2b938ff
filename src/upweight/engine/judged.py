"""Stationarity of an objective, with what its gradients call for saying first."""

from __future__ import annotations

import torch

from upweight.engine.engine import Engine
from upweight.engine.kinks import warn_of_enormous_gradients
from upweight.engine.said import refuse_bad_gradients, say_if_flat
from upweight.engine.stationarity import Moments, Stationarity


def judged(engine: Engine, moments: Moments) -> Stationarity:
    """How far θ is from an optimum, by sums that a pass has gathered on its way (`Objective.stationarity`)."""
    problem = engine.problem
    if not torch.isfinite(moments.total).all():
        refuse_bad_gradients(engine)
    say_if_flat(problem, moments)
    warn_of_enormous_gradients(engine, moments.each)
    return moments.judged(problem.n, problem.l2 * problem.params)
