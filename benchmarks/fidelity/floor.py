"""The least that any gradient method does: one plain forward and backward over training data and queries.

    python -m benchmarks.fidelity.floor --problem FILE.npz --task mnist-mlp

Prints one line of JSON: the median seconds.
"""

from __future__ import annotations

import argparse
import json

import torch

from benchmarks.fidelity import models
from benchmarks.fidelity.peers.common import Problem, read
from benchmarks.measure import seconds

BATCH = 500


def once(problem: Problem) -> None:
    """Sum of the losses and its gradient, batch by batch."""
    leaves = list(problem.model.parameters())
    for examples in (problem.train, problem.queries):
        for x, y in zip(*(part.split(BATCH) for part in examples), strict=True):
            torch.autograd.grad(models.loss(problem.model, x, y).sum(), leaves)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--problem", required=True)
    parser.add_argument("--task", choices=models.TASKS, required=True)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    problem = read(options.problem, options.task)
    print(json.dumps({"floor": seconds(lambda: once(problem))}))


if __name__ == "__main__":
    main()
