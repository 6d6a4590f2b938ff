"""One array of whatever kind as a tensor; what doesn't hold a number for each of its places is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from upweight.errors import InputError

KINDS = "biufc"
"""NumPy's kinds of numbers."""


def as_tensor(value: Any, name: str) -> Tensor:
    """An array, a tensor, a list of numbers or a column of pandas as a dense tensor outside any graph.

    Raises
    ------
    InputError
        If it holds no numbers, or not all of them: a tensor of the meta device or of a sparse layout, a masked array.
    """
    if hasattr(value, "to_numpy"):  # pandas
        value = value.to_numpy()
    if isinstance(value, np.ndarray):
        value = _native(value, name)
    try:
        return dense(torch.as_tensor(value), name).detach()
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{name}: {type(value).__name__} can't become a tensor ({error}); give arrays or tensors of numbers"
            + _instead(value)
        ) from error


def _instead(value: Any) -> str:
    """What may be given in its place."""
    kind = value.dtype.kind if isinstance(value, np.ndarray) else ""
    if kind in {"U", "S"}:
        return ": of text as labels, np.unique(y, return_inverse=True)[1]"
    return ", e.g. X.toarray()" if hasattr(value, "toarray") else ", e.g. X.astype(float)" if kind in {"O", "f"} else ""


def dense(value: Tensor, name: str) -> Tensor:
    """The tensor itself, if it has its numbers, and all of them.

    Raises
    ------
    InputError
        If it hasn't.
    """
    if value.is_nested:
        raise InputError(f"{name}: a nested tensor has no shape; give a padded one, X.to_padded_tensor(0.0)")
    if value.is_meta:
        raise InputError(
            f"{name}: a tensor {list(value.shape)} is on the meta device, which holds no numbers; give them"
        )
    if value.layout != torch.strided:
        raise InputError(
            f"{name}: a tensor {list(value.shape)} has layout {value.layout}; give a dense one, X.to_dense()"
        )
    if value.is_quantized:
        raise InputError(f"{name}: a tensor {list(value.shape)} is quantized, {value.dtype}; give X.dequantize()")
    if value.is_floating_point() and value.dtype.itemsize < 2:
        raise InputError(f"{name}: a tensor {list(value.shape)} is {value.dtype}, too coarse to sum; give X.float()")
    return value


def _native(value: np.ndarray, name: str) -> np.ndarray:
    """The array as torch reads it: of numbers in this machine's order, a copy where torch can't alias it safely."""
    if np.ma.is_masked(value):
        masked = np.argwhere(np.ma.getmaskarray(value))
        raise InputError(
            f"{name}: a masked array {list(value.shape)} has no value in {len(masked)} places, first at "
            f"{masked[0].tolist()}; fill them, e.g. X.filled(0.0), or drop these examples"
        )
    if value.dtype.kind not in KINDS or value.dtype.itemsize > np.dtype(complex).itemsize:
        return value  # torch says what is wrong with it
    if not value.dtype.isnative:
        return value.astype(value.dtype.newbyteorder("="))
    # Read-only memory maps and negative strides.
    return value if value.flags.writeable and min(value.strides, default=0) >= 0 else value.copy()
