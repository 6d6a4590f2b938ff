"""The least that any gradient method does: one plain forward and backward over the data.

    python -m benchmarks.fidelity.floor --problem FILE.npz --task mnist-mlp

Prints one line of JSON: the median seconds.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.fidelity import models, single
from benchmarks.fidelity.measure import seconds
from benchmarks.fidelity.peers.problem import Problem

BATCH = 500


def batched(problem: Problem) -> None:
    """Sum of the losses and its gradient, batch by batch, over training data and queries."""
    leaves = list(problem.model.parameters())
    for examples in (problem.train, problem.queries):
        for x, y in zip(*(part.split(BATCH) for part in examples), strict=True):
            torch.autograd.grad(models.loss(problem.model, x, y).sum(), leaves)


def whole(problem: Problem) -> None:
    """Mean loss and its gradient over the training data of a convex task, which is one batch."""
    torch.autograd.grad(models.loss(problem.model, *problem.train).mean(), list(problem.model.parameters()))


def measure(problem: Problem) -> dict[str, Any]:
    """Median seconds."""
    torch.set_flush_denormal(True)
    once, repeats = (whole, 5) if problem.task in models.CONVEX else (batched, 3)
    return {"floor": seconds(lambda: once(problem), repeats)}


if __name__ == "__main__":
    single.main(measure)
