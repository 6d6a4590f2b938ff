"""How much a forward pass keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Saved:
    """Storages that a graph holds, each counted once."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}
        self._kept: list[Tensor] = []  # while they live no two storages have one address

    def note(self, tensor: Tensor) -> int:
        """One saved tensor; the graph has its number, as an operation that held its own output would never go."""
        storage = tensor.untyped_storage()
        self._bytes[storage.data_ptr()] = storage.nbytes()
        self._kept.append(tensor)
        return len(self._kept) - 1

    def noted(self, number: int) -> Tensor:
        """The tensor of this number."""
        return self._kept[number]

    def let_go(self) -> None:
        """Hold no tensors any more; what they took stays known."""
        self._kept.clear()

    def beside(self, others: Iterable[Tensor]) -> int:
        """Bytes of all that is saved, storages of ``others`` left out."""
        known = {tensor.untyped_storage().data_ptr() for tensor in others}
        return sum(size for place, size in self._bytes.items() if place not in known)


@contextmanager
def saved_numbers() -> Iterator[Saved]:
    """Counts what graphs save that are made within."""
    saved = Saved()
    try:
        with torch.autograd.graph.saved_tensors_hooks(saved.note, saved.noted):
            yield saved
    finally:
        saved.let_go()
