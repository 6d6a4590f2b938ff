"""What the figures take: each check gives the argument in one form or refuses it by name.

A ``partner`` is the name and the shape of the argument that another one must fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from upweight.arrays import dense
from upweight.errors import InputError

Values = npt.ArrayLike | torch.Tensor
Array = npt.NDArray[Any]
Partner = tuple[str, tuple[int, ...]]


def array(name: str, values: Any) -> Array:
    """Real numbers as a non-empty numpy array; bfloat16, which numpy lacks, becomes float32."""
    if isinstance(values, torch.Tensor):
        values = dense(values, name).detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        given = values.resolve_conj().resolve_neg().numpy()
    else:
        try:
            given = np.asarray(values)
        except ValueError as error:
            raise InputError(f"{name}: got rows of different lengths; give one rectangular array") from error
    if given.dtype.kind not in "buif":
        raise InputError(f"{name}: got dtype {given.dtype}; give real numbers")
    if given.size == 0:
        raise InputError(f"{name}: got an empty array of shape {given.shape}; give at least one value")
    return given


def finite(name: str, values: Any) -> Array:
    """Finite real numbers of any shape and type."""
    given = array(name, values)
    wrong = np.argwhere(~np.isfinite(given))
    if len(wrong):
        at = tuple(wrong[0].tolist())
        where = at[0] if len(at) == 1 else at
        raise InputError(
            f"{name}: {len(wrong)} of {given.size} values are not finite (first {given[at]} at {where}); "
            "leave these out, or find out why they were computed so, before drawing"
        )
    return given


def numbers(name: str, values: Any, partner: Partner | None = None) -> Array:
    """Finite float64 numbers of the partner's shape, or of any shape without a partner."""
    given = finite(name, values).astype(float)
    if partner is not None and given.shape != partner[1]:
        raise InputError(
            f"{name}: got shape {given.shape}, but {partner[0]} has {partner[1]}; give one value for each of its values"
        )
    return given


def vector(name: str, values: Any) -> Array:
    """Finite float64 numbers ``[n]``."""
    given = numbers(name, values)
    if given.ndim != 1:
        raise InputError(f"{name}: got shape {given.shape}; give one dimension, for example by .ravel()")
    return given


def standard_errors(name: str, values: Any, partner: Partner) -> Array:
    """Standard errors of the partner's shape; zero where none are given."""
    if values is None:
        return np.zeros(partner[1])
    given = numbers(name, values, partner)
    if given.min() < 0:
        raise InputError(f"{name}: got the negative value {given.min()}; a standard error is at least 0")
    return given


def names(name: str, values: Iterable[object] | Values, partner: Partner) -> list[str]:
    """A name for each of the partner's values, row by row; only an array of the partner's shape is flattened."""
    is_single = getattr(values, "ndim", 1) == 0 and partner[1] != ()
    if isinstance(values, str) or not isinstance(values, Iterable) or is_single:
        raise InputError(f"{name}: got {values!r}; give a list, one for each value of {partner[0]}")
    if isinstance(values, torch.Tensor | np.ndarray):
        items = (values.reshape(-1) if tuple(values.shape) == partner[1] else values).tolist()
    else:
        items = list(values)
    size = math.prod(partner[1])
    if len(items) != size:
        raise InputError(f"{name}: got {len(items)}, but {partner[0]} has {size}; give one for each")
    return [str(item) for item in items]


def several(name: str, values: Any) -> list[Any]:
    """Things in a list or along an array's first dimension, at least one."""
    if isinstance(values, str | Mapping | type) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
        raise InputError(f"{name}: got {type(values).__name__}; give a list of arrays")
    return list(values)


def mask(name: str, values: Any) -> Array:
    """Booleans ``[n]``, at least one of which is True."""
    given = array(name, values)
    if given.ndim != 1 or not np.isin(given, (0, 1)).all():
        raise InputError(f"{name}: got shape {given.shape} of {given.dtype}; give one True or False per example")
    if not given.any():
        raise InputError(f"{name}: none of {given.size} is True, so there is nothing to find; mark at least one")
    return given.astype(bool)


def order(name: str, values: Any, n: int) -> npt.NDArray[np.int64]:
    """Distinct positions within 0 … n - 1, ``[k]``."""
    given = vector(name, values)
    positions = given.astype(np.int64)
    outside = (positions != given) | (positions < 0) | (positions >= n)
    if outside.any():
        raise InputError(
            f"{name}: got {given[outside][0]:g}, which is no training position; give whole numbers in 0 … {n - 1}"
        )
    distinct, times = np.unique(positions, return_counts=True)
    if distinct.size < positions.size:
        twice = distinct[times > 1][0]
        raise InputError(f"{name}: position {twice} is checked {times.max()} times; give each at most once")
    return positions
