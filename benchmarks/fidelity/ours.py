"""upweight on the fidelity tasks, by the same clock, limits and answer as the peers (`benchmarks.fidelity.peers.common`).

    python -m benchmarks.fidelity.ours --problem FILE.npz --task mnist-mlp --variant auto --answer OUT.npz
    python -m benchmarks.fidelity.ours --problem FILE.npz --task mnist-mlp --variant dual-2500 --answer OUT.npz --damping best

Where a variant needs more models than the one explained, it trains them here: their seconds are part of ``fit``, and
stand as ``training`` in the settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

import upweight as uw
from benchmarks.fidelity import tasks
from benchmarks.fidelity.ground_truth import CHECKPOINTS, FURTHER_SEEDS
from benchmarks.fidelity.peers.common import Fitted, Problem, Refused, run

MULTIPLES = tuple(2.0**k for k in range(-4, 5))
"""The grid: dampings in multiples of the automatic one."""

RANK = 200
EARLY = 2
"""Checkpoints, of five, that an early model has seen."""


def objective(problem: Problem, l2: float | None = None) -> uw.Objective:
    """What the task minimised; another λ if it is given."""
    penalty = problem.l2 if l2 is None else l2
    return uw.Objective(problem.model, uw.losses.CrossEntropy(), problem.train, l2=penalty)


def influence(problem: Problem, folder: Path, *, inverse: Any = None, l2: float | None = None) -> Fitted:
    """One inverse; another damping costs no fit."""
    fitted = uw.Influence(objective(problem, l2), inverse)
    return scored(problem, fitted, {"inverse": repr(fitted.inverse), "choice": fitted.choice})


def scored(problem: Problem, fitted: uw.Influence, settings: dict[str, Any]) -> Fitted:
    """The scores of an influence whose solver is fitted here."""
    solver = fitted.solver

    def score(damping: float | None) -> Tensor:
        if damping is None:
            return fitted.attribute(problem.queries).scores
        return uw.Influence(fitted.objective, solver.with_damping(damping)).attribute(problem.queries).scores

    grid = tuple(multiple * solver.damping for multiple in MULTIPLES)
    return Fitted(score, grid, {"unit": "nats", "automatic damping": solver.damping, **settings})


def plain(problem: Problem, folder: Path, *, attribute: Callable[[Problem, dict[str, Any]], uw.Attribution]) -> Fitted:
    """A method without a damping to choose, whose fit is part of its scores."""
    settings: dict[str, Any] = {}

    def score(damping: float | None) -> Tensor:
        if damping is not None:
            raise Refused("it has no damping to choose")
        found = attribute(problem, settings)
        return found.quantity.helpful_sign * found.scores

    return Fitted(score, (), settings)


def tracin(problem: Problem, settings: dict[str, Any]) -> uw.Attribution:
    """All checkpoints, at their mean learning rates."""
    states = [problem.with_parameters(each).state_dict() for each in problem.checkpoints]
    settings["checkpoints"] = len(states)
    return uw.TracIn(objective(problem), states, problem.rates).attribute(problem.queries)


def trak(problem: Problem, settings: dict[str, Any], *, several: bool) -> uw.Attribution:
    """Margins where each example has one label; the further models are those of the problem, as for the peers."""
    states = problem.states(several=several)
    settings["models"] = len(states)
    measurement = "loss" if problem.sequences else "margin"
    return uw.TRAK(objective(problem), states, measurement=measurement).attribute(problem.queries)


def gradient_dot(problem: Problem, settings: dict[str, Any]) -> uw.Attribution:
    """Influence with H = I."""
    return uw.similarity.gradient_dot(objective(problem), problem.queries)


def seeds(problem: Problem) -> list[tasks.State]:
    """The model explained, and models of further seeds, trained now."""
    n = len(problem.train[0])
    further = [tasks.train(problem.task, range(n), seed) for seed in range(1, 1 + FURTHER_SEEDS)]
    return [problem.model.state_dict(), *further]


def checkpoint(problem: Problem) -> list[tasks.State]:
    """The model explained on the way to its end; trained again up to there."""
    return checkpoints(problem)[-1:]


def checkpoints(problem: Problem) -> list[tasks.State]:
    """Every checkpoint up to the early one, of the seed of the model explained."""
    total = tasks.RECIPES[problem.task].epochs
    ends = [-(-k * total // CHECKPOINTS) for k in range(1, EARLY + 1)]
    states = []
    for done, epoch in enumerate(tasks.epochs(problem.task, range(len(problem.train[0])), seed=0), start=1):
        if done in ends:
            states.append({name: value.clone() for name, value in epoch.model.state_dict().items()})
        if done == ends[-1]:
            break
    return states


def early_seeds(problem: Problem) -> list[tasks.State]:
    """Early models of the seed explained and of further seeds: a part of the training of each."""
    raise NotImplementedError


def ensemble(
    problem: Problem, folder: Path, *, models: Callable[[Problem], list[tasks.State]], inverse: Any = None
) -> Fitted:
    """The mean over models that are trained first."""
    start = time.perf_counter()
    members = models(problem)
    training = time.perf_counter() - start
    averaged = uw.Ensemble(objective(problem), members, inverse)

    def score(damping: float | None) -> Tensor:
        return averaged.attribute(problem.queries).scores

    return Fitted(score, (), {"unit": "nats", "models": len(members), "training": training})
