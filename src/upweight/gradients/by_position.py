"""Pairs of an example and a position in the place of examples: how they lie in an operation's output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from upweight.gradients.axes import Axis
from upweight.gradients.graph import Use
from upweight.gradients.owners import Owned, planned
from upweight.gradients.rules import Examples

ALLOWED = frozenset(
    {
        "AddmmBackward0",
        "MmBackward0",
        "NativeLayerNormBackward0",
        "FusedRmsNormBackward0",
        "EmbeddingBackward0",
        "AddBackward0",
        "SubBackward0",
        "MulBackward0",
        "DivBackward0",
        "ExpandBackward0",
    }
)
"""Operations whose rows are of one position each, wherever positions lie."""


@dataclass(frozen=True, eq=False)
class Positions(Examples):
    """Examples and positions in two dimensions; pair i·time + t is position t of example i.

    Attributes
    ----------
    dim, before
        As ``examples`` has them.
    examples, axis
        How the examples lie, and the positions.
    count, time
        How many examples there are, and positions over all fields.
    """

    examples: Examples
    axis: Axis
    count: int
    time: int

    @property
    def further(self) -> int | None:
        """See `Examples`."""
        assert self.axis.at is not None
        return self.axis.at.dim

    def slices(self, length: int) -> Int[Tensor, " pairs"] | None:
        """See `Examples`: where each position is one slice of the dimension."""
        if length != len(self.axis.labels):
            return None
        place = torch.zeros(self.time, dtype=torch.long, device=self.axis.labels.device)
        place[self.axis.rows(length)] = torch.arange(length, device=place.device)
        return place.repeat(self.count)

    def split(self, tensor: Tensor, count: int) -> Tensor:
        """See `Examples`."""
        at = self.axis.at
        assert at is not None
        parted = self.examples.split(tensor, count // self.time)  # [examples, rows, *others]
        dim = 2 + at.dim - (at.dim > self.dim)
        labels = self.axis.rows(tensor.shape[at.dim]).to(tensor.device)
        by_position = Owned(dim, -1, labels).split(parted, self.time)  # [time, rest, examples, rows, *others]
        moved = by_position.movedim(2, 0).movedim(3, 2)  # [examples, time, rows, rest, *others]
        return moved.reshape(count, -1, *moved.shape[4:]).unsqueeze(dim)


def paired(use: Use, at: Examples, axis: Axis, shape: torch.Size, count: int, time: int) -> Examples | None:
    """How pairs of example and position lie in an operation's output of this shape; None where that can't be said.

    ``at`` and ``axis`` are how its examples and its positions lie, ``count`` and ``time`` how many there are.
    """
    if use.kind not in ALLOWED or bool((axis.labels < 0).any()):
        return None
    if axis.at is not None and axis.at.dim != at.dim:
        return Positions(at.dim, at.before, at, axis, count, time)
    length, device = shape[at.dim], axis.labels.device
    owners = at.owners.to(device) if isinstance(at, Owned) else planned(at, length, count, device)
    pairs = torch.where(owners >= 0, owners * time + axis.rows(length), -1)
    if length == count * time and torch.equal(pairs, torch.arange(length, device=device)):
        return Examples(at.dim, 1)
    return Owned(at.dim, -1, pairs)
