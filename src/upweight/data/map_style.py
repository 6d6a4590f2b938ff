"""Map-style datasets, read through a DataLoader; what goes wrong in them is told with its position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Subset, default_collate

from upweight.arrays import dense
from upweight.data.batch import Batch, cast, plain, tensors
from upweight.errors import InputError

MAP_ROWS = 256


@dataclass(frozen=True)
class MapData:
    """A map-style dataset read through a DataLoader, which collates, and works in processes if asked to."""

    dataset: Any
    num_workers: int = 0
    collate: Callable[[list[Any]], Batch] = default_collate
    dtype: torch.dtype | None = None
    device: torch.device | None = None
    name: str = "data"

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def rows(self) -> int:
        """Examples per batch where the user doesn't say."""
        return MAP_ROWS

    def _cast(self, batch: Batch) -> Batch:
        if self.dtype is None or self.device is None:
            return batch
        return cast(batch, self.dtype, self.device)

    def take(self, indices: Sequence[int] | Tensor) -> Batch:
        """The examples at these positions, as one batch."""
        examples = _Named(self.dataset, self.name)
        return self._cast(self._collated([examples[int(i)] for i in indices]))

    @property
    def _collated(self) -> Callable[[list[Any]], Batch]:
        return partial(_collated, self.collate, self.name)

    def batches(self, indices: Tensor | None, batch_size: int | None) -> Iterator[tuple[Tensor, Batch]]:
        """Pairs of positions and batch, in the order of ``indices`` (default: all)."""
        size = batch_size or self.rows
        positions = torch.arange(len(self)) if indices is None else indices
        if not len(positions):
            return
        named: Any = _Named(self.dataset, self.name)
        source = named if indices is None else Subset(named, indices.tolist())
        loader = DataLoader(
            source,
            batch_size=size,
            num_workers=self.num_workers,
            collate_fn=self._collated,
            pin_memory=self.device is not None and self.device.type == "cuda",  # the copies don't wait
        )
        for chunk, batch in zip(positions.split(size), loader, strict=True):
            yield chunk, self._cast(batch)

    def to(self, dtype: torch.dtype, device: torch.device) -> MapData:
        """The same examples with floating-point tensors in ``dtype`` on ``device``."""
        return replace(self, dtype=dtype, device=device)


@dataclass(frozen=True)
class _Named:
    """A user's dataset whose errors say at which position they were raised."""

    dataset: Any
    name: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        try:
            return self.dataset[position]
        except Exception as error:
            kind, said = type(self.dataset).__name__, f"{type(error).__name__}: {error}"
            raise InputError(
                f"{self.name}: reading example {position} of {len(self.dataset)} raised {said}; mend "
                f"{kind}.__getitem__, or leave the example out"
            ) from error

    def __getitems__(self, positions: list[int]) -> list[Any]:
        """Several at once where the dataset can; one by one, which names the bad one, where that fails."""
        if callable(getattr(self.dataset, "__getitems__", None)):
            try:
                return list(self.dataset.__getitems__(positions))
            except Exception:
                pass
        return [self[position] for position in positions]


def _collated(collate: Callable[[list[Any]], Batch], name: str, examples: list[Any]) -> Batch:
    """A batch of these examples; says which two are of different shapes where they can't be joined."""
    try:
        batch = plain(collate(examples))
    except Exception as error:
        shapes = [[list(leaf.shape) for leaf in tensors(example)] for example in examples]
        other = next((k for k, shape in enumerate(shapes) if shape != shapes[0]), None)
        unlike = "" if other is None else f"shapes {shapes[0]} and {shapes[other]} are among them; "
        raise InputError(
            f"{name}: {len(examples)} examples can't be made a batch: {unlike}{type(error).__name__}: {error}. Give "
            "collate=, a function from a list of examples to a batch (it may pad)"
        ) from error
    return pytree.tree_map(lambda leaf: dense(leaf, name).detach() if isinstance(leaf, Tensor) else leaf, batch)
