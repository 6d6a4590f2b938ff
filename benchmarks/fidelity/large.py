"""Memory at scale: 50,000 CIFAR-10 images × 100 queries in one call, on the network of the task *cifar-cnn*.

    python -m benchmarks.fidelity.large --problem benchmarks/.made/fidelity/cifar-cnn.npz

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch import Tensor

import upweight as uw
from benchmarks.fidelity.data import CIFAR_TRAIN
from benchmarks.fidelity.peers.common import read
from benchmarks.measure import Growth
from upweight.datasets import load

QUERIES = 100


def images() -> tuple[Tensor, Tensor]:
    """All training images, scaled as those of the task, which are the first of them, and their classes."""
    pixels, labels = load("cifar10").split("train")
    x = torch.tensor(pixels).permute(0, 3, 1, 2).float().div_(255)
    variance, mean = torch.var_mean(x[:CIFAR_TRAIN], (0, 2, 3), keepdim=True)
    return x.sub_(mean).div_(variance.sqrt()), torch.tensor(labels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--problem", required=True)
    options = parser.parse_args()
    problem, train = read(options.problem, "cifar-cnn", QUERIES), images()
    with Growth() as growth:
        start = time.perf_counter()
        influence = uw.Influence(uw.Objective(problem.model, uw.losses.CrossEntropy(), train, l2=problem.l2))
        scores = influence.attribute(problem.queries).scores
        seconds = time.perf_counter() - start
    found = {"n": len(train[0]), "queries": len(scores), "memory": growth.mib, "seconds": seconds}
    data = sum(part.numel() * part.element_size() for part in train) / 2**20
    print(json.dumps({**found, "data": data, "choice": influence.choice, "inverse": repr(influence.inverse)}))


if __name__ == "__main__":
    main()
