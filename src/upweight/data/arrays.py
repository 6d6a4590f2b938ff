"""Arrays in memory, whose batches are slices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from upweight.data.batch import Batch, batch_length, cast, sent, tensors

# A batch of arrays holds about this many numbers of input: small enough for a core's cache and for
# activations, large enough for the matrix products to run at full speed.
BATCH_ELEMENTS = 2**20


@dataclass(frozen=True)
class ArrayData:
    """Arrays of equal length held in memory; batches are slices, without collation."""

    arrays: Batch

    def __len__(self) -> int:
        return batch_length(self.arrays)

    def take(self, indices: Sequence[int] | Tensor) -> Batch:
        """The examples at these positions, as one batch."""
        index = torch.as_tensor(indices, dtype=torch.long)
        return pytree.tree_map(lambda leaf: leaf[sent(index, leaf.device)], self.arrays)

    def batches(self, indices: Tensor | None, batch_size: int | None) -> Iterator[tuple[Tensor, Batch]]:
        """Pairs of positions and batch, in the order of ``indices`` (default: all)."""
        size = batch_size or self.rows
        if indices is not None:
            for chunk in indices.split(size) if len(indices) else ():
                yield chunk, self.take(chunk)
            return
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            rows = slice(start, stop)
            yield torch.arange(start, stop), pytree.tree_map(lambda leaf: leaf[rows], self.arrays)  # noqa: B023

    def to(self, dtype: torch.dtype, device: torch.device) -> ArrayData:
        """The same examples with floating-point tensors in ``dtype`` on ``device``."""
        return ArrayData(cast(self.arrays, dtype, device))

    @property
    def rows(self) -> int:
        """Examples per batch where the user doesn't say: as many as hold ``BATCH_ELEMENTS`` numbers."""
        per_example = sum(math.prod(leaf.shape[1:]) for leaf in tensors(self.arrays))
        return min(max(BATCH_ELEMENTS // max(per_example, 1), 32), 4096)
