"""Some examples of a pool as a data set of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import Subset

from upweight.data import Data, MapData
from upweight.errors import InputError
from upweight.frameworks.shown import Rows


def taken(own: Data, dataset: Any, positions: Int[np.ndarray, " k"]) -> Any:
    """Examples at these positions of the pool, in this order.

    Parameters
    ----------
    own
        The pool as the objective reads it.
    dataset
        The pool as it is to be cut; None: as it was given.

    Raises
    ------
    InputError
        If it hasn't as many examples as the pool.
    """
    if dataset is None:
        dataset = own.dataset if isinstance(own, MapData) else None
        dataset = dataset.dataset if isinstance(dataset, Rows) else dataset
    if dataset is None:
        return own.take(positions.tolist())
    if callable(getattr(dataset, "select", None)):
        _refuse_other(len(dataset), len(own))
        return dataset.select(positions.tolist())
    if isinstance(dataset, tuple | Mapping | np.ndarray | torch.Tensor):
        return _cut(dataset, positions, len(own))
    _refuse_other(len(dataset), len(own))
    if isinstance(dataset, list):
        return [dataset[position] for position in positions]
    return Subset(dataset, positions.tolist())


def _cut(arrays: Any, positions: Int[np.ndarray, " k"], n: int) -> Any:
    """Rows of arrays, nested as they are."""
    if isinstance(arrays, Mapping):
        return {name: _cut(values, positions, n) for name, values in arrays.items()}
    if isinstance(arrays, tuple | list):
        parts = [_cut(values, positions, n) for values in arrays]
        return type(arrays)(*parts) if hasattr(arrays, "_fields") else type(arrays)(parts)
    _refuse_other(len(arrays), n)
    return arrays[torch.from_numpy(positions)] if isinstance(arrays, torch.Tensor) else arrays[positions]


def _refuse_other(size: int, n: int) -> None:
    if size != n:
        raise InputError(f"dataset: got {size} examples; the selection is of a pool of {n}")
