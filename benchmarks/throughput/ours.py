"""EK-FAC of ``upweight``: what a user calls, from the model to the scores."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import upweight as uw
from benchmarks.throughput.problems import Problem
from benchmarks.throughput.script import DAMPING, Clock, main


def score(problem: Problem, clock: Clock, device: torch.device, precision: str, folder: Path) -> Tensor:
    """Removals in nats, of the empirical Fisher."""
    model, train, queries = problem.made()
    with clock.stage("objective"):
        objective = uw.Objective(model.to(device), uw.losses.CrossEntropy(), train)
    inverse = uw.inverse.EKFAC(uw.curvature.EmpiricalFisher(), damping=DAMPING)
    influence = uw.Influence(objective, inverse=inverse)
    with clock.stage("factors"):
        solver = influence.solver
    with clock.stage("scores"):
        return uw.Influence(objective, solver).attribute(queries).scores


if __name__ == "__main__":
    main(score)
