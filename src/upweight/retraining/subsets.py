"""Random subsets of the training data to train on."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from upweight import scalars
from upweight.errors import InputError


def random_halves(n: int, count: int, seed: int, fraction: float = 0.5) -> Int[Tensor, "count size"]:
    """Subsets of round(``fraction``·n) of n examples, drawn without replacement, each in ascending order.

    Parameters
    ----------
    n
        Number of training examples.
    count
        Number of subsets.
    seed
        Of the draws: with the same one, more subsets begin with the same ones.
    fraction
        Share of the examples in each, in (0, 1] (default .5).

    Returns
    -------
    Positions ``[count, size]``.

    Raises
    ------
    InputError
        If a subset would be empty or more than everything, or ``count`` or ``n`` is below 1.
    """
    scalars.whole("n", n)
    scalars.whole("count", count)
    scalars.seed("seed", seed)
    size = round(n * scalars.number("fraction", fraction, above=0, most=1))
    if size < 1:
        raise InputError(f"fraction: {fraction:g} of n={n} examples is less than one; give a larger one")
    generator = scalars.generator(seed)
    return torch.stack([torch.randperm(n, generator=generator)[:size].sort().values for _ in range(count)])
