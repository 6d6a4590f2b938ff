"""EK-FAC of ``upweight``: what a user calls, from the model to the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import upweight as uw
from benchmarks.throughput.problems import Problem
from benchmarks.throughput.script import DAMPING, Clock, lowered, main
from upweight.inverse import ekfac

STAGES = {"kronecker_factors": "covariances", "eigenbases": "eigenvectors", "diagonalised": "second moments"}
"""The functions of which EK-FAC's fit consists."""


def score(problem: Problem, clock: Clock, device: torch.device, precision: str, folder: Path) -> Tensor:
    """Removals in nats, of the empirical Fisher."""
    model, train, queries = problem.made()
    with lowered(device, precision):
        with clock.stage("set-up"):
            influence = influence_on(problem, model.to(device), train)
        clock.known["planned"] = influence.plan(queries).peak_bytes
        with clock.stage("set-up"), stages(clock):
            _ = influence.solver
        with clock.stage("scores"):
            return influence.attribute(queries).scores


def influence_on(problem: Problem, model: torch.nn.Module, train: tuple[Tensor, Tensor]) -> uw.Influence:
    """EK-FAC of the empirical Fisher."""
    objective = uw.Objective(model, uw.losses.CrossEntropy(), train, parameters=problem.parameters(model))
    return uw.Influence(objective, inverse=uw.inverse.EKFAC(uw.curvature.EmpiricalFisher(), damping=DAMPING))


@contextmanager
def stages(clock: Clock) -> Iterator[None]:
    """Within, the parts of EK-FAC's fit are stages of their own."""
    with ExitStack() as timed:
        for name, stage in STAGES.items():
            timed.enter_context(patch.object(ekfac, name, staged(clock, stage, getattr(ekfac, name))))
        yield


def staged(clock: Clock, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a stage; what it yields is made within."""

    def counted(*given: Any, **named: Any) -> Any:
        with clock.stage(stage):
            found = function(*given, **named)
            return list(found) if isinstance(found, Iterator) else found

    return counted


if __name__ == "__main__":
    main(score)
