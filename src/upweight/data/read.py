"""Anything a PyTorch user calls a data set, read as arrays or as a map-style dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from upweight.arrays import as_tensor
from upweight.data.arrays import ArrayData
from upweight.data.batch import Batch, tensors
from upweight.data.interface import Data
from upweight.data.loader import loaded
from upweight.data.map_style import MapData
from upweight.errors import InputError


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
        any map-style dataset, a list of examples, or a Hugging Face dataset (read in its torch format, in float32). A
        ``DataLoader`` stands for its dataset, collated as it does (`upweight.data.loader`).
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
    if isinstance(source, DataLoader):
        read = loaded(source, name)
        source, collate = read.dataset, collate or read.collate
    if collate is None and _is_batch(source, name):
        source = tuple(source)
    if isinstance(source, IterableDataset) or (not hasattr(source, "__len__") and hasattr(source, "__iter__")):
        raise InputError(
            f"{name}: {type(source).__name__} is iterable without length or positions; "
            "every example needs a position to be scored by. Give a map-style dataset, e.g. list(dataset)"
        )
    if isinstance(source, str | bytes):
        texts = "" if collate is None else f", or of texts a list, {[source[:40]]!r}"
        raise InputError(f"{name}: got the text {source[:40]!r}; give arrays or a map-style dataset{texts}")
    if collate is not None and isinstance(source, Mapping) and any(isinstance(each, str) for each in source.values()):
        raise InputError(f"{name}: got one row, with the text {_first_text(source)!r}; give a list of rows, [row]")
    if isinstance(source, TensorDataset) and collate is None:
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


def _first_text(row: Mapping[str, Any]) -> str:
    return next(each for each in row.values() if isinstance(each, str))[:40]


def _length(source: Any, name: str) -> int:
    """How many examples a dataset has."""
    try:
        return len(source)
    except Exception as error:  # a user's own __len__ may raise whatever it likes
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


def _arrays(source: Any, name: str) -> ArrayData:
    arrays = pytree.tree_map(lambda leaf: as_tensor(leaf, name), source)
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
