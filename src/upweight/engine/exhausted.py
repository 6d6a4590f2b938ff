"""Whether an error says that a device has no memory left."""

from __future__ import annotations

import torch

WORDS = ("can't allocate memory", "not enough memory", "out of memory")
"""Of torch's allocators, which raise a RuntimeError where it isn't `torch.OutOfMemoryError`."""


def is_out_of_memory(error: BaseException) -> bool:
    """By its class, or by its words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)
