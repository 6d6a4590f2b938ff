"""Random subsets of the training data to train on."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from upweight.messages import InputError


def random_halves(n: int, count: int, seed: int, fraction: float = 0.5) -> Int[Tensor, "count size"]:
    """Subsets of round(``fraction``·n) of n examples, drawn without replacement, each in ascending order.

    Raises
    ------
    InputError
        If a subset would be empty or more than everything, or ``count`` is below 1.
    """
    size = round(n * fraction)
    if count < 1 or not 1 <= size <= n:
        raise InputError(
            f"random_halves: {count} subsets of {size} of n={n} examples can't be drawn; give count ≥ 1 and a "
            f"fraction in (0, 1], got {fraction}"
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(n, generator=generator)[:size].sort().values for _ in range(count)])
