"""What is known of a problem without any system: sizes, operations of the floor, and the speed of a matrix product.

    python -m benchmarks.throughput.facts --problem gpt

Prints one line of JSON.
"""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fidelity.models import loss
from benchmarks.throughput.problems import Problem
from benchmarks.throughput.script import arguments, asked, tf32

PRODUCT = {"cuda": 8192, "cpu": 2048}
"""Rows of the square matrices whose product stands for the most that a machine can do."""


def sizes(problem: Problem) -> dict[str, Any]:
    """Examples, tokens, and parameters: all, and those attributed to."""
    with torch.device("meta"):
        model = problem.build()
    every = dict(model.named_parameters())
    names = problem.parameters(model) or list(every)
    return {
        "train": problem.train,
        "queries": problem.queries,
        "tokens": problem.tokens,
        "parameters": sum(parameter.numel() for parameter in every.values()),
        "attributed": sum(every[name].numel() for name in names),
    }


def floor_flops(problem: Problem) -> int:
    """Operations of one forward and one backward pass over the training data, as torch counts them."""
    with torch.device("meta"), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss(problem.build(), *problem.draw(1)).sum().backward()
    return counter.get_total_flops() * problem.train


def product_speed(device: torch.device, precision: str, size: int | None = None, repeats: int = 5) -> float:
    """Operations a second of a large matrix product in the precision, the best of some."""
    size = size or PRODUCT[device.type]
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with tf32(precision == "tf32"):
            float((a @ a)[0, 0])  # waits for a device to finish
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def facts(problem: Problem, device: torch.device, precision: str, size: int | None = None) -> dict[str, Any]:
    """All of it."""
    counted = {"floor_flops": floor_flops(problem), "product_speed": product_speed(device, precision, size)}
    return sizes(problem) | counted


def main() -> None:
    given = arguments().parse_args()
    print(json.dumps(facts(asked(given), torch.device(given.device), given.precision, 256 if given.small else None)))


if __name__ == "__main__":
    main()
