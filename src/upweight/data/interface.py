"""Examples that can be counted, taken by position and walked in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from upweight.data.batch import Batch


@runtime_checkable
class Data(Protocol):
    """Examples that can be counted, taken by position and walked in order."""

    def __len__(self) -> int: ...

    @property
    def rows(self) -> int:
        """Examples per batch where the user doesn't say."""
        ...

    def take(self, indices: Sequence[int] | Tensor) -> Batch:
        """The examples at these positions, as one batch."""
        ...

    def batches(self, indices: Tensor | None, batch_size: int | None) -> Iterator[tuple[Tensor, Batch]]:
        """Pairs of positions and batch, in the order of ``indices`` (default: all); none of no positions."""
        ...

    def to(self, dtype: torch.dtype, device: torch.device) -> Data:
        """The same examples with floating-point tensors in ``dtype`` on ``device``."""
        ...
