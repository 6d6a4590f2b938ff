"""dattri: TRAK, and influence functions by EK-FAC, CG, Arnoldi, DataInf, LoGra and a dense Hessian.

It scores ∇L_qᵀ(H + δ)⁻¹∇ℓ; larger = more helpful, and over n a removal in nats (not TRAK). It inverts per batch and
adds the inverses up, so the Hessian's batch is all examples; and it transforms the queries anew for each batch of
training data, so that is one batch too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from dattri import algorithm
from dattri.task import AttributionTask
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.fidelity import models
from benchmarks.fidelity.peers.fitted import Fitted
from benchmarks.fidelity.peers.problem import ROWS, Problem, margin
from benchmarks.fidelity.peers.script import run

GRID = (0.0001, 0.001, 0.01, 0.1)
MULTIPLES = (0.1, 1.0, 10.0)
"""EK-FAC's grid: dampings in multiples of the mean eigenvalue."""
DIMENSIONS = 2048
RANK = 20
"""Of Arnoldi; of its default, 100, some eigenvalues are negative, and their roots make every score NaN."""
FEW = 16
"""Queries that DataInf takes at once: it holds their square times p."""


def task(problem: Problem) -> AttributionTask:
    """The mean loss of a batch, as its influence functions ask."""

    def loss(parameters: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return models.loss_of_outputs(torch.func.functional_call(problem.model, parameters, (x,)), y).mean()

    return AttributionTask(loss_func=loss, model=problem.model, checkpoints=problem.states())


def loader(part: tuple[Tensor, Tensor], batch: int | None = None) -> DataLoader:
    """In order; all in one batch unless told otherwise."""
    return DataLoader(TensorDataset(*part), batch_size=batch or len(part[0]))


def influence(
    kind: Callable[..., Any], problem: Problem, folder: Path, *, queries: int | None = None, **settings: Any
) -> Fitted:
    """One of its influence functions, made anew for each damping; ``queries`` are taken at once."""

    def score(damping: float | None) -> Tensor:
        chosen = {} if damping is None else {"regularization": damping}
        with sdpa_kernel(SDPBackend.MATH):  # the others can't be differentiated twice
            attributor = kind(task(problem), **settings, **chosen)
            attributor.cache(loader(problem.train))
            scores = attributor.attribute(loader(problem.train), loader(problem.queries, queries))
        return scores.T / len(problem.train[0])

    return Fitted(score, GRID, {"unit": "nats", **settings})


def ekfac(problem: Problem, folder: Path) -> Fitted:
    """Its EK-FAC: the empirical Fisher of Linear layers."""
    attributor = algorithm.IFAttributorEKFAC(task(problem))
    attributor.cache(loader(problem.train, ROWS[problem.task]))
    values = attributor.cached_lambdas.values()
    mean = float(sum(value.sum() for value in values) / sum(value.numel() for value in values))

    def score(damping: float | None) -> Tensor:
        attributor.damping = 0.0 if damping is None else damping
        return attributor.attribute(loader(problem.train), loader(problem.queries)).detach().T / len(problem.train[0])

    grid = tuple(multiple * mean for multiple in MULTIPLES)
    return Fitted(score, grid, {"unit": "nats", "labels": "true", "mean eigenvalue": mean})


class WithLoss(nn.Module):
    """The model with its loss in the output, and named inputs: its LoGra mistakes a tuple's batch for one example."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor) -> SimpleNamespace:
        """The sum of the batch's losses as ``loss``."""
        return SimpleNamespace(loss=models.loss(self.model, x, y).sum())


def logra(problem: Problem, folder: Path) -> Fitted:
    """Projected gradients of Linear layers, 4,096 numbers per layer; its damping is relative to the mean eigenvalue."""
    os.chdir(folder)  # it writes a file into the working directory, and reads what it finds there
    model = WithLoss(problem.model)

    def named(part: tuple[Tensor, Tensor]) -> DataLoader:
        return DataLoader([{"x": x, "y": y} for x, y in zip(*part, strict=True)], batch_size=ROWS[problem.task])

    def score(damping: float | None) -> Tensor:
        given = AttributionTask(lambda model, batch, device: model(**batch).loss, model, model.state_dict())
        attributor = algorithm.LoGraAttributor(given, damping=damping, offload="none")
        attributor.cache(named(problem.train))
        return attributor.attribute(named(problem.train), named(problem.queries)).T

    return Fitted(score, MULTIPLES, {"dimensions": "4096 per layer", "labels": "true"})


def trak(problem: Problem, folder: Path, *, several: bool = False) -> Fitted:
    """Its TRAK: gradients of the margin, projected."""
    states = problem.states(several=several)
    dimensions = min(DIMENSIONS, len(problem.train[0]) // 2)  # singular when examples are fewer

    def target(parameters: dict[str, Tensor], example: tuple[Tensor, Tensor]) -> Tensor:
        x, y = (part[None] for part in example)
        return margin(torch.func.functional_call(problem.model, parameters, (x,)), y).sum()

    def probability(parameters: dict[str, Tensor], example: tuple[Tensor, Tensor]) -> Tensor:
        return torch.sigmoid(target(parameters, example))

    def score(damping: float | None) -> Tensor:
        attributor = algorithm.TRAKAttributor(
            AttributionTask(loss_func=target, model=problem.model, checkpoints=states),
            correct_probability_func=probability,
            projector_kwargs={"proj_dim": dimensions},
            regularization=damping or 0.0,
        )
        attributor.cache(loader(problem.train, ROWS[problem.task]))
        return attributor.attribute(loader(problem.queries, ROWS[problem.task])).detach().T

    return Fitted(score, (), {"models": len(states), "dimensions": dimensions})


VARIANTS = {
    "TRAK, 1 model": trak,
    "TRAK, several models": partial(trak, several=True),
    "EK-FAC": ekfac,
    "CG, 10 iterations": partial(influence, algorithm.IFAttributorCG),
    f"Arnoldi {RANK}": partial(influence, algorithm.IFAttributorArnoldi, proj_dim=RANK),
    "DataInf": partial(influence, algorithm.IFAttributorDataInf, queries=FEW),
    "LoGra": logra,
    "explicit": partial(influence, algorithm.IFAttributorExplicit),
}

if __name__ == "__main__":
    run("dattri", VARIANTS)
