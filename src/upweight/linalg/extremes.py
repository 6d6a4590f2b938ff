"""The largest or smallest numbers of rows that arrive piece by piece, equal ones in order of their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

PIECE = 2**20
"""Numbers that a thread parts at a time."""
PARTED = (torch.float32, torch.float64)
"""What NumPy parts faster than torch."""


@dataclass(frozen=True)
class Extremes:
    """The k largest (``descending``), or smallest, of each row seen so far; of equal ones those that come first.

    In the order of a stable sort, where NaN is larger than all numbers.
    """

    values: Float[Tensor, "rows k"]
    places: Int[Tensor, "rows k"]
    descending: bool


def merged(several: Sequence[Extremes], k: int) -> Extremes:
    """Of all of them, which are of the same rows, the places of each coming before all of the next."""
    values, places = (
        torch.cat(parts, dim=1) for parts in zip(*((one.values, one.places) for one in several), strict=True)
    )
    # Of equal numbers those that come first among the columns have the first places too.
    found = extremes(values, 0, k, descending=several[0].descending)
    return Extremes(found.values, places.gather(1, found.places), found.descending)


def extremes(values: Float[Tensor, "rows columns"], first: int, k: int, *, descending: bool) -> Extremes:
    """The k extremes of each row, or all if there are fewer, where ``first`` is the place of the first column.

    What is not among them is never sorted.
    """
    rows, columns = values.shape
    if k >= columns or not rows:
        order = torch.argsort(values, dim=1, descending=descending, stable=True)
        return Extremes(values.gather(1, order), order + first, descending)
    parted = _parted(values, k, descending=descending)
    found, beyond = parted[:, :k].sort(dim=1).values, parted[:, k:]
    kept = values.gather(1, found)
    # Among numbers equal to the last that is kept, or several NaNs, any were taken.
    last = kept.amin(1) if descending else kept.amax(1)
    undecided = ((values.gather(1, beyond)[:, 0] == last) | torch.isnan(last) | torch.isnan(kept).any(1)).nonzero()[
        :, 0
    ]
    if len(undecided):
        order = torch.argsort(values[undecided], dim=1, descending=descending, stable=True)
        found[undecided] = order[:, :k].sort(dim=1).values
        kept = values.gather(1, found)
    order = torch.argsort(kept, dim=1, descending=descending, stable=True)
    return Extremes(kept.gather(1, order), found.gather(1, order) + first, descending)


def _parted(values: Float[Tensor, "rows columns"], k: int, *, descending: bool) -> Int[Tensor, "rows some"]:
    """Columns of k extremes of each row in any order, then that of the next."""
    if values.device.type != "cpu" or values.dtype not in PARTED:
        return values.topk(k + 1, dim=1, largest=descending).indices
    rows, columns = values.shape
    numbers, at = values.detach().numpy(), columns - 1 - k if descending else k
    found = np.empty((rows, k + 1), dtype=np.int64)

    def part(some: slice) -> None:
        order = np.argpartition(numbers[some], at, axis=1)
        found[some] = order[:, at:][:, ::-1] if descending else order[:, : k + 1]

    pieces, threads = list(_pieces(rows, columns)), torch.get_num_threads()
    if threads == 1 or len(pieces) == 1:
        for some in pieces:
            part(some)
    else:
        with ThreadPoolExecutor(min(threads, len(pieces))) as pool:
            list(pool.map(part, pieces))
    return torch.from_numpy(found)


def _pieces(rows: int, columns: int) -> Iterator[slice]:
    width = max(PIECE // columns, 1)
    return (slice(start, start + width) for start in range(0, rows, width))
