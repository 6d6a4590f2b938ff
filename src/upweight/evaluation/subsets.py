"""The subsets of the training data that models were retrained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from upweight.errors import InputError
from upweight.plots import checks

FEWEST = 3
"""Subsets to rank: two agree or don't, and say no more."""


@dataclass(frozen=True, eq=False)
class Subsets:
    """Sorted training positions of each subset, and n where it is known."""

    members: tuple[np.ndarray, ...]
    n: int | None

    def membership(self, n: int) -> Bool[np.ndarray, "subsets train"]:
        """Which of n training examples each subset holds.

        Raises
        ------
        InputError
            If the subsets are of other data.
        """
        largest = max(int(positions[-1]) for positions in self.members)
        if (self.n is not None and self.n != n) or largest >= n:
            given = f"are masks of {self.n} examples" if self.n is not None else f"hold position {largest}"
            raise InputError(f"scores: {n} columns, but the subsets {given}; give a score for every training example")
        inside = np.zeros((len(self.members), n), dtype=bool)
        for row, positions in zip(inside, self.members, strict=True):
            row[positions] = True
        return inside


def as_subsets(given: Any) -> Subsets:
    """Read a list of index arrays, ``[subsets, size]`` indices or ``[subsets, train]`` booleans.

    Raises
    ------
    InputError
        If there are fewer than three, one is empty, or a position is negative or named twice.
    """
    if isinstance(given, Tensor | np.ndarray) and given.ndim != 2:
        raise InputError(f"subsets: got shape {tuple(given.shape)}; give one row, or one index array, per subset")
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"subsets: got {type(given).__name__}; give a list of index arrays or [subsets, train]")
    rows = [checks.array(f"subsets[{i}]", row) for i, row in enumerate(given)]
    if len(rows) < FEWEST:
        raise InputError(f"subsets: give at least {FEWEST} to rank; got {len(rows)}")
    masks = [row.dtype == bool for row in rows]
    shapes = {row.shape for row in rows}
    if any(masks) and not (all(masks) and len(shapes) == 1):
        raise InputError("subsets: masks need one True or False per training example in every row")
    n = len(rows[0]) if masks[0] else None
    positions = [np.flatnonzero(row) if n is not None else row for row in rows]
    for i, row in enumerate(positions):
        if (
            row.ndim != 1
            or not row.size
            or row.dtype.kind not in "ui"
            or row.min() < 0
            or np.unique(row).size < row.size
        ):
            raise InputError(f"subsets[{i}]: give at least one position, distinct whole numbers from 0, or a mask")
    return Subsets(tuple(np.sort(row).astype(np.int64) for row in positions), n)
