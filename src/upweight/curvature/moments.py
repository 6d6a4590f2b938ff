"""Σ v vᵀ summed in place, batch by batch, at half the multiplications of a product: the upper triangle by strips."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

STRIPS, NARROWEST = 8, 256
"""Strips of the upper triangle, (s + 1)/2s of the whole matrix; and rows of one, below which a product is slow."""


class SecondMoment:
    """Σ v vᵀ over rows v, or its diagonal.

    Parameters
    ----------
    size
        Entries of a row.
    like
        Precision and place of the sum.
    is_diagonal
        Whether only Σ v² is kept.
    """

    def __init__(self, size: int, like: Tensor, *, is_diagonal: bool = False):
        self._sum = like.new_zeros(size) if is_diagonal else like.new_zeros(size, size)

    @classmethod
    def of(cls, entries: Tensor) -> SecondMoment:
        """A sum that was made elsewhere, by its `entries`."""
        found = cls(0, entries)
        found._sum = entries
        return found

    def add(self, rows: Float[Tensor, "m d"]) -> None:
        """Add the outer products of some rows."""
        if self._sum.dim() == 1:
            self._sum += (rows**2).sum(0)
            return
        size = len(self._sum)
        if size <= NARROWEST:
            self._sum.addmm_(rows.T, rows)
            return
        step = max(-(-size // STRIPS), NARROWEST)
        for first in range(0, size, step):
            strip = rows[:, first : first + step]
            self._sum[first : first + step, first:].addmm_(strip.T, rows[:, first:])

    @property
    def entries(self) -> Tensor:
        """What was summed, the upper triangle and some of the lower."""
        return self._sum

    def matrix(self) -> Tensor:
        """The sum ``[d, d]`` in its own memory, or its diagonal ``[d]``; it can be added to no more then."""
        if self._sum.dim() == 1:
            return self._sum
        upper = self._sum.triu(1)
        return self._sum.triu_().add_(upper.T)
