"""Forms of batches in which a plan's way of lying has been seen to hold.

The first examples leave open what a longer sequence will tell: where time stands first, one step looks like examples
first. So a batch whose shapes are new, but for the number of examples, is looked at with seeds (`owners`), once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from upweight.data import Batch, tensors
from upweight.gradients.graph import Node, Use
from upweight.gradients.owners import ROUNDING, Owned, by_row, planned
from upweight.gradients.rules import Examples

Form = tuple[tuple[float, ...], ...]

NOTHING = {torch.float64: 1e-13, torch.float32: 1e-6}
"""Part of the largest gradient below which a row's is rounding."""


def form(
    batch: Batch,
    found: Sequence[Use],
    gradients: Mapping[Node, Tensor],
    ways: Sequence[Examples | None],
    count: int,
) -> Form:
    """The shapes of a batch's parts and of its operations' outputs, but for the number of examples."""
    shapes: list[tuple[float, ...]] = [tuple(leaf.shape[1:]) for leaf in tensors(batch)]
    for use, at in zip(found, ways, strict=True):
        shape: list[float] = list(gradients[use.node].shape) if use.node in gradients else []
        if at is not None and at.dim < len(shape):
            shape[at.dim] /= count
        shapes.append(tuple(shape))
    return tuple(shapes)


def nothing(gradients: Mapping[Node, Tensor]) -> float:
    """The size of a row's gradient that is rounding of the largest one's."""
    sizes = [float(g.abs().max()) * NOTHING.get(g.dtype, 1e-6) for g in gradients.values() if g.numel()]
    return max(sizes, default=0.0)


def holds(
    plan: Examples, plain: Tensor, seeded: Sequence[Tensor], multipliers: Tensor, count: int, nothing: float
) -> bool:
    """Whether the rows lie as planned: each is multiplied by its example's seed.

    ``plain`` is the gradient at the operation's output, ``seeded`` are those with each row of ``multipliers``.
    """
    if isinstance(plan, Owned) or not plan.fits(plain.shape, count):
        return False
    rows = by_row(plain, plan.dim)
    whose = planned(plan, len(rows), count, rows.device)
    allowed = ROUNDING.get(plain.dtype, 2e-3) * rows.norm(dim=1) + nothing
    gaps = (
        (by_row(gradient, plan.dim) - seed[whose, None] * rows).norm(dim=1)
        for gradient, seed in zip(seeded, multipliers, strict=True)
    )
    return all(bool((gap <= allowed).all()) for gap in gaps)
