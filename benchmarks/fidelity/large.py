"""Memory at scale: 50,000 CIFAR-10 images × 100 queries in one call, on the network of the task *cifar-cnn*.

    python -m benchmarks.fidelity.large --problem benchmarks/.made/fidelity/cifar-cnn.npz --task cifar-cnn

Prints one line of JSON.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

import upweight as uw
from benchmarks.fidelity.data import CIFAR_TRAIN
from benchmarks.fidelity.measure import Growth
from benchmarks.fidelity.peers.problem import Problem
from benchmarks.fidelity.single import main
from upweight.datasets import load

QUERIES = 100


def images() -> tuple[Tensor, Tensor]:
    """All training images, scaled as those of the task, which are the first of them, and their classes."""
    pixels, labels = load("cifar10").split("train")
    x = torch.tensor(pixels).permute(0, 3, 1, 2).float().div_(255)
    variance, mean = torch.var_mean(x[:CIFAR_TRAIN], (0, 2, 3), keepdim=True)
    return x.sub_(mean).div_(variance.sqrt()), torch.tensor(labels)


def measure(problem: Problem) -> dict[str, Any]:
    """MiB and seconds."""
    train = images()
    with Growth() as growth:
        start = time.perf_counter()
        influence = uw.Influence(uw.Objective(problem.model, uw.losses.CrossEntropy(), train, l2=problem.l2))
        scores = influence.attribute(problem.queries).scores
        seconds = time.perf_counter() - start
    found = {"n": len(train[0]), "queries": len(scores), "memory": growth.mib, "seconds": seconds}
    data = sum(part.numel() * part.element_size() for part in train) / 2**20
    return {**found, "data": data, "choice": influence.choice, "inverse": repr(influence.inverse)}


if __name__ == "__main__":
    main(measure, QUERIES)
