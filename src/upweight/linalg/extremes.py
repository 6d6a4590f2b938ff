"""The largest numbers of rows that arrive piece by piece, equal ones in order of their place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Largest:
    """The k largest of each row seen so far, largest first; of equal ones those whose places come first."""

    values: Float[Tensor, "rows k"]
    places: Int[Tensor, "rows k"]

    def and_of(self, other: Largest, k: int) -> Largest:
        """The k largest of both, the places of this one coming before all of the other."""
        values = torch.cat([self.values, other.values], dim=1)
        order = torch.argsort(values, dim=1, descending=True, stable=True)[:, :k]
        return Largest(values.gather(1, order), torch.cat([self.places, other.places], dim=1).gather(1, order))


def largest(values: Float[Tensor, "rows columns"], first: int, k: int) -> Largest:
    """The k largest of each row, or all if there are fewer, where ``first`` is the place of the first column.

    As a stable sort in descending order has them (NaN before all numbers), without sorting what is not among them.
    """
    count = min(k, values.shape[1])
    found = values.topk(count, dim=1).indices.sort(dim=1).values
    kept = values.gather(1, found)
    # Among numbers equal to the least that is kept, or several NaNs, topk takes any.
    least = kept.amin(1, keepdim=True)
    doubtful = ((values >= least).sum(1) != count) | torch.isnan(kept).any(1)
    rows = doubtful.nonzero()[:, 0]
    if len(rows):
        found[rows] = torch.argsort(values[rows], dim=1, descending=True, stable=True)[:, :count].sort(dim=1).values
        kept = values.gather(1, found)
    order = torch.argsort(kept, dim=1, descending=True, stable=True)
    return Largest(kept.gather(1, order), found.gather(1, order) + first)
