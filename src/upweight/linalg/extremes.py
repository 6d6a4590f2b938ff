"""The largest or smallest numbers of rows that arrive piece by piece, equal ones in order of their place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Extremes:
    """The k largest (``descending``), or smallest, of each row seen so far; of equal ones those that come first.

    In the order of a stable sort, where NaN is larger than all numbers.
    """

    values: Float[Tensor, "rows k"]
    places: Int[Tensor, "rows k"]
    descending: bool

    def and_of(self, other: Extremes, k: int) -> Extremes:
        """Of both, the places of this one coming before all of the other."""
        values = torch.cat([self.values, other.values], dim=1)
        order = torch.argsort(values, dim=1, descending=self.descending, stable=True)[:, :k]
        places = torch.cat([self.places, other.places], dim=1)
        return Extremes(values.gather(1, order), places.gather(1, order), self.descending)


def extremes(values: Float[Tensor, "rows columns"], first: int, k: int, *, descending: bool) -> Extremes:
    """The k extremes of each row, or all if there are fewer, where ``first`` is the place of the first column.

    What is not among them is never sorted.
    """
    count = min(k, values.shape[1])
    found = values.topk(count, dim=1, largest=descending).indices.sort(dim=1).values
    kept = values.gather(1, found)
    # Among numbers equal to the last that is kept, or several NaNs, topk takes any.
    as_far = values >= kept.amin(1, keepdim=True) if descending else values <= kept.amax(1, keepdim=True)
    rows = ((as_far.sum(1) != count) | torch.isnan(kept).any(1)).nonzero()[:, 0]
    if len(rows):
        order = torch.argsort(values[rows], dim=1, descending=descending, stable=True)
        found[rows] = order[:, :count].sort(dim=1).values
        kept = values.gather(1, found)
    order = torch.argsort(kept, dim=1, descending=descending, stable=True)
    return Extremes(kept.gather(1, order), found.gather(1, order) + first, descending)
