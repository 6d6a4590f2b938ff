"""Training data and queries as batches, whatever they come as.

A *batch* is what the user's dataset yields after collation: a tensor, tuple, dict or any nesting of them,
each tensor with the examples along its first dimension. Lists (as torch's ``default_collate`` makes them) come as
tuples and other mappings (``UserDict``, ``BatchEncoding``) as dicts. Batches always come in dataset order, so a
result can name the example by its position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from upweight.errors import InputError

Batch = Any

# A batch of arrays holds about this many numbers of input: small enough for a core's cache and for
# activations, large enough for the matrix products to run at full speed.
BATCH_ELEMENTS = 2**20
MAP_ROWS = 256


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


def cast(batch: Batch, dtype: torch.dtype, device: torch.device) -> Batch:
    """Move the tensors of a batch to ``device``, floating-point ones also to ``dtype``."""

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.to(device=device, dtype=dtype if leaf.is_floating_point() else None)

    return pytree.tree_map(move, batch)


def plain(batch: Batch) -> Batch:
    """The batch with lists as tuples and mappings as dicts: one form, whoever collated it."""
    if isinstance(batch, Mapping):
        return {key: plain(value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [plain(value) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    return batch


def tensors(batch: Batch) -> list[Tensor]:
    """The tensor leaves of a batch."""
    return [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def batch_length(batch: Batch) -> int:
    """Number of examples in a batch, from the first dimension of its first tensor."""
    leaves = tensors(batch)
    if not leaves or leaves[0].dim() == 0:
        raise InputError("data: a batch holds no tensor with a first dimension to count examples along")
    return leaves[0].shape[0]


def join(first: Batch, second: Batch) -> Batch:
    """Two batches of the same structure as one."""
    return pytree.tree_map(lambda a, b: torch.cat([a, b]) if isinstance(a, Tensor) else a, first, second)


@dataclass(frozen=True)
class ArrayData:
    """Arrays of equal length held in memory; batches are slices, without collation."""

    arrays: Batch

    def __len__(self) -> int:
        return batch_length(self.arrays)

    def take(self, indices: Sequence[int] | Tensor) -> Batch:
        """The examples at these positions, as one batch."""
        index = torch.as_tensor(indices, dtype=torch.long)
        return pytree.tree_map(lambda leaf: leaf[index.to(leaf.device)], self.arrays)

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
        loader = DataLoader(source, batch_size=size, num_workers=self.num_workers, collate_fn=self._collated)
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
        return plain(collate(examples))
    except Exception as error:
        shapes = [[list(leaf.shape) for leaf in tensors(example)] for example in examples]
        other = next((k for k, shape in enumerate(shapes) if shape != shapes[0]), None)
        unlike = "" if other is None else f"shapes {shapes[0]} and {shapes[other]} are among them; "
        raise InputError(
            f"{name}: {len(examples)} examples can't be made a batch: {unlike}{type(error).__name__}: {error}. Give "
            "collate=, a function from a list of examples to a batch (it may pad)"
        ) from error


def as_data(
    source: Any,
    *,
    name: str = "data",
    num_workers: int = 0,
    collate: Callable[[list[Any]], Batch] | None = None,
) -> Data:
    """Read anything a PyTorch user calls a data set.

    Parameters
    ----------
    source
        A tuple or mapping (nested as you like) of arrays or tensors of equal first dimension; a ``TensorDataset``;
        any map-style dataset, a list of examples, or a Hugging Face dataset (read in its torch format, in float32).
        A list ``[x, y]`` of arrays that are as long as each other, but not of one shape and kind, is the tuple
        ``(x, y)``, unless ``collate`` is given; arrays of one shape are examples.

    Raises
    ------
    InputError
        If it is empty, has no length, holds NaN, or its arrays differ in length; or if it is a list of two arrays of
        one shape, which may be two examples or inputs and targets.
    """
    if isinstance(source, ArrayData | MapData):
        return source
    if collate is None and _is_batch(source, name):
        source = tuple(source)
    if isinstance(source, IterableDataset) or (not hasattr(source, "__len__") and hasattr(source, "__iter__")):
        raise InputError(
            f"{name}: {type(source).__name__} is iterable without length or positions; "
            "every example needs a position to be scored by. Give a map-style dataset, e.g. list(dataset)"
        )
    if isinstance(source, str | bytes):
        raise InputError(f"{name}: got the text {source[:40]!r}; give arrays or a map-style dataset")
    if isinstance(source, DataLoader):
        raise InputError(f"{name}: a DataLoader was given; give its dataset (loader.dataset) and collate function")
    if isinstance(source, TensorDataset):
        return _arrays(tuple(source.tensors), name)
    if isinstance(source, tuple | Mapping | Tensor | np.ndarray) and not isinstance(source, Dataset):
        return _arrays(_listed(source, name), name)
    if not hasattr(source, "__getitem__"):
        raise InputError(
            f"{name}: {type(source).__name__} can't be indexed; give arrays or a map-style dataset with "
            "__len__ and __getitem__"
        )
    if _length(source, name) == 0:
        raise InputError(f"{name}: it is empty (0 examples)")
    if hasattr(source, "with_format") and getattr(source, "format", {}).get("type") is None:
        source = source.with_format("torch")  # Hugging Face: a view of the same data that yields tensors
    return MapData(source, num_workers, collate or default_collate, name=name)


def _length(source: Any, name: str) -> int:
    """How many examples a dataset has."""
    try:
        return len(source)
    except (TypeError, NotImplementedError, AttributeError) as error:
        raise InputError(
            f"{name}: {type(source).__name__} has positions but no length ({error}); give it a __len__, or "
            "torch.utils.data.Subset(dataset, range(n)) of its first n examples"
        ) from error


def is_list_of_arrays(source: Any) -> bool:
    """Whether it is a list of nothing but arrays."""
    return isinstance(source, list) and len(source) > 0 and all(hasattr(part, "shape") for part in source)


def _is_batch(source: Any, name: str) -> bool:
    """Whether a list holds inputs and targets rather than examples: as long as each other, but not alike."""
    if not is_list_of_arrays(source) or len(source) < 2:
        return False
    shapes = [tuple(part.shape) for part in source]
    if not all(shapes) or len({shape[0] for shape in shapes}) > 1:
        return False
    kinds = {(shape, str(getattr(part, "dtype", ""))) for shape, part in zip(shapes, source, strict=True)}
    if len(kinds) == 1 and len(source) == 2:
        raise InputError(
            f"{name}: a list of two arrays of shape {shapes[0]} may be two examples or inputs and targets; give a "
            "tuple (x, y) for these, or the examples as one array, torch.stack(list)"
        )
    return len(kinds) > 1


def _listed(source: Any, name: str) -> Any:
    """Arrays with lists of plain numbers made arrays, other lists tuples, mappings dicts."""
    if isinstance(source, Mapping):
        return {key: _listed(value, name) for key, value in source.items()}
    if isinstance(source, tuple):
        parts = [_listed(value, name) for value in source]
        return type(source)(*parts) if hasattr(source, "_fields") else tuple(parts)
    if not isinstance(source, list):
        return source
    if any(hasattr(leaf, "shape") and leaf.shape for leaf in pytree.tree_leaves(source)):
        return tuple(_listed(value, name) for value in source)
    try:
        return np.asarray(source)
    except ValueError as error:
        raise InputError(
            f"{name}: a list of {len(source)} lists of unequal length is no array; pad them (tokenizer(…, "
            "padding=True, return_tensors='pt')), or give a list of examples with collate="
        ) from error


def _plain(leaf: Tensor, name: str) -> Tensor:
    """The tensor itself, if it has its numbers, and all of them."""
    if leaf.is_meta:
        raise InputError(
            f"{name}: a tensor {list(leaf.shape)} is on the meta device, which holds no numbers; give them"
        )
    if leaf.layout != torch.strided:
        raise InputError(
            f"{name}: a tensor {list(leaf.shape)} has layout {leaf.layout}; give a dense one, X.to_dense()"
        )
    return leaf


def _arrays(source: Any, name: str) -> ArrayData:
    def to_tensor(leaf: Any) -> Tensor:
        if hasattr(leaf, "to_numpy"):  # pandas
            leaf = leaf.to_numpy()
        try:
            # A copy where torch can't alias the array safely (read-only memory maps, negative strides).
            if isinstance(leaf, np.ndarray) and (not leaf.flags.writeable or min(leaf.strides, default=0) < 0):
                leaf = leaf.copy()
            return _plain(torch.as_tensor(leaf).detach(), name)
        except InputError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{name}: {type(leaf).__name__} can't become a tensor ({error}); give arrays or tensors of numbers"
                + (", e.g. X.toarray()" if hasattr(leaf, "toarray") else "")
            ) from error

    arrays = pytree.tree_map(to_tensor, source)
    leaves = tensors(arrays)
    lengths = {leaf.shape[0] if leaf.dim() else None for leaf in leaves}
    if len(lengths) != 1 or None in lengths:
        shapes = [tuple(leaf.shape) for leaf in leaves]
        raise InputError(f"{name}: arrays must have the same number of examples (rows); shapes are {shapes}")
    if 0 in lengths:
        raise InputError(f"{name}: it is empty (0 examples)")
    for number, leaf in enumerate(leaves):
        # A finite sum has finite terms; only a sum that isn't needs every term looked at.
        if leaf.is_floating_point() and not torch.isfinite(leaf.sum()) and not torch.isfinite(leaf).all():
            bad = (~torch.isfinite(leaf)).reshape(leaf.shape[0], -1).any(1).nonzero().flatten()
            raise InputError(
                f"{name}: array {number} has NaN or infinite values in {len(bad)} examples, first at position "
                f"{int(bad[0])}; drop or fill them"
            )
    return ArrayData(arrays)
