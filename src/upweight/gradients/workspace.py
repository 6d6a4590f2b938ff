"""Memory that is used again, and pieces of a large temporary.

Fresh pages cost a CPU as much as a product that fills them: the C library hands temporaries above 32 MiB back to the
system at once, and takes new ones. On a GPU torch keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

SMALL, LARGE = 2**21, 2**26
"""Numbers in a piece of a temporary, on a CPU and elsewhere."""


class Workspace:
    """The memory of one temporary after another."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory of this shape, with anything in it; what was given before is overwritten."""
        numbers, memory = math.prod(shape), self._memory
        if memory is None or len(memory) < numbers or memory.dtype != like.dtype or memory.device != like.device:
            memory = self._memory = like.new_empty(numbers)
        return memory[:numbers].view(shape)


def rows_at_once(numbers: int, device: torch.device) -> int:
    """How many of something, with so many numbers each, make a temporary of moderate size."""
    return max((SMALL if device.type == "cpu" else LARGE) // max(numbers, 1), 1)


def pieces(count: int, numbers: int, device: torch.device) -> Iterator[slice]:
    """Slices of ``count`` examples, each with so many numbers in a temporary of moderate size."""
    rows = rows_at_once(numbers, device)
    yield from (slice(start, start + rows) for start in range(0, count, rows))
