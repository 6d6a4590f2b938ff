"""Whose each row of an operation is, where that is not a matter of shapes: unpadded tokens, nodes of graphs, routing.

Where rows are arranged by shapes alone, a batch's graph proves whose they are (`upweight.gradients.traced`).
Operations that arrange them by their values (``x[mask]``, index_add, pooling by a matrix) give each batch an order of
its own, and only its gradients can tell: f = Σ_i s_i f_i is linear in the seeds s, so the gradient at a row of example
i is s_i times that of s = 1, and the ratio names the example. A row that several examples share has a ratio between
theirs, which may be that of a third: so the last seeds are random numbers, and the example named must have its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from upweight.forward import widest
from upweight.gradients.rules import Examples

BASE = 64
"""Seeds are 1 + digit/64 for the digits of an example's number, so that ratios stay apart in float32."""
APART = 0.25
"""Of the distance between two seeds, by which a ratio may be off."""
ROUNDING = {torch.float64: 1e-7, torch.float32: 2e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Part of a row's gradient that may be none of its example's."""


def seeds(count: int, like: Tensor) -> Tensor:
    """Multipliers of the examples' values, ``[digits + 1, count]``: the last are random, the same in every process."""
    numbers, digits = torch.arange(count, device=like.device), list[Tensor]()
    while not digits or BASE ** len(digits) < count:
        digits.append(1 + (numbers % BASE).to(like.dtype) / BASE)
        numbers = numbers // BASE
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    return torch.stack([*digits, 1 + drawn.to(like)])


def by_row(gradient: Tensor, dim: int) -> Tensor:
    """Rows along a dimension, ``[rows, others]``, of 16 bits in float32."""
    return widest(gradient).movedim(dim, 0).unsqueeze(-1).flatten(1)


def owners(plain: Tensor, seeded: list[Tensor], dim: int, count: int) -> Int[Tensor, " rows"] | None:
    """The example that each row along ``dim`` belongs to, −1 where it has no gradient; None where one has several.

    ``plain`` is the gradient at the operation's output, ``seeded`` are those with the examples' `seeds`.
    """
    *coded, proof = seeded
    rows = by_row(plain, dim)
    squares = (rows * rows).sum(1)
    found = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    allowed = ROUNDING.get(plain.dtype, 2e-3)
    size = float(squares.max()) ** 0.5 if len(rows) else 0.0
    for place, gradient in enumerate(coded):
        others = by_row(gradient, dim)
        ratios = (rows * others).sum(1) / squares.clamp_min(torch.finfo(rows.dtype).tiny)
        digits = ((ratios - 1) * BASE).round()
        off = ((ratios - 1) * BASE - digits).abs() > APART
        rest = (others - ratios[:, None] * rows).norm(dim=1)
        # Rows far below the largest are rounding of sums that cancel; they weigh nothing either.
        wrong = (off | (digits < 0) | (digits >= BASE)) & (squares > (1e-12 * size) ** 2)
        if wrong.any() or (rest > allowed * others.norm(dim=1) + 1e-12 * size).any():
            return None
        found += digits.clamp(0, BASE - 1).long() * BASE**place
    found = torch.where(squares > 0, found, -1)
    if (found >= count).any():
        return None
    own = seeds(count, rows)[-1][found.clamp_min(0)]
    gaps = (by_row(proof, dim) - own[:, None] * rows).norm(dim=1)
    return None if (gaps > allowed * rows.norm(dim=1) + 1e-12 * size).any() else found


@dataclass(frozen=True)
class Owned(Examples):
    """Examples whose rows stand anywhere along ``dim``: ``owners[r]`` says whose row r is, −1 nobody's."""

    owners: Any = None

    def fits(self, shape: torch.Size, count: int) -> bool:
        """Whether there are so many rows."""
        return self.dim < len(shape) and shape[self.dim] == len(self.owners)

    def split(self, tensor: Tensor, count: int) -> Tensor:
        """The examples first, ``[count, most rows of one, *others]``, filled up with zeros."""
        moved = tensor.movedim(self.dim, 0)
        mine = (self.owners >= 0).nonzero().flatten()
        order = mine[self.owners[mine].argsort(stable=True)]
        whose = self.owners[order]
        sizes = torch.bincount(whose, minlength=count)
        starts = sizes.cumsum(0) - sizes
        place = torch.arange(len(order), device=order.device) - starts[whose]
        padded = moved.new_zeros(count, max(int(sizes.max()), 1) if len(order) else 1, *moved.shape[1:])
        padded[whose, place] = moved[order]
        return padded


def planned(plan: Examples, rows: int, count: int, device: torch.device) -> Int[Tensor, " rows"]:
    """The example of each row, as the plan has it."""
    parted = Examples(0, plan.before).split(torch.arange(rows, device=device), count)
    expected = torch.empty(rows, dtype=torch.long, device=device)
    expected[parted.reshape(-1)] = torch.arange(count, device=device).repeat_interleave(parted.shape[1])
    return expected


def lying(plan: Examples | None, found: Tensor, shape: torch.Size, dim: int, count: int) -> Examples:
    """The plan's way of lying, if this batch's rows lie so; else by their owners."""
    if plan is not None and not isinstance(plan, Owned) and plan.fits(shape, count):
        expected = planned(plan, len(found), count, found.device)
        if bool(((found == expected) | (found < 0)).all()):
            return plan
    return Owned(dim, -1, found)
