"""Arrays, tensors and tables by content."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from upweight.retraining.fingerprint.unknown import UnknownContentError

if TYPE_CHECKING:
    import pandas as pd

    from upweight.retraining.fingerprint.walk import Reader, Walk

COMPRESSED: dict[torch.layout, tuple[Callable[[Tensor], Tensor], ...]] = {
    torch.sparse_csr: (Tensor.crow_indices, Tensor.col_indices, Tensor.values),
    torch.sparse_bsr: (Tensor.crow_indices, Tensor.col_indices, Tensor.values),
    torch.sparse_csc: (Tensor.ccol_indices, Tensor.row_indices, Tensor.values),
    torch.sparse_bsc: (Tensor.ccol_indices, Tensor.row_indices, Tensor.values),
}


def tensor(walk: Walk, value: Tensor) -> Iterator[bytes]:
    """Kind, precision, shape, whether gradients are wanted, attributes, and content."""
    yield from walk.parts(type(value))
    yield f"{value.dtype} {tuple(value.shape)} {value.layout} {value.requires_grad}".encode()
    if vars(value):
        yield from walk.parts(vars(value))
    if value.is_meta:
        return
    try:
        found = [_bytes(each) for each in _dense(value.detach())]
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise UnknownContentError(f"a tensor of {value.layout} on {value.device}") from error
    yield from found


def _dense(value: Tensor) -> list[Tensor]:
    """The dense tensors that hold the content; a sparse one is never spread out."""
    if value.layout == torch.strided:
        return [value]
    if value.layout == torch.sparse_coo:
        joined = value.coalesce()
        return [joined.indices(), joined.values()]
    if value.layout not in COMPRESSED:
        raise TypeError(f"{value.layout}")
    return [part(value) for part in COMPRESSED[value.layout]]


def _bytes(value: Tensor) -> bytes:
    """As bytes, since NumPy doesn't know every precision."""
    if value.is_quantized:
        raise TypeError("quantized")
    plain = value.resolve_conj().resolve_neg().cpu().clone(memory_format=torch.contiguous_format).flatten()
    return plain.view(torch.uint8).numpy().tobytes()


def array(walk: Walk, value: Any) -> Iterator[bytes]:
    """Precision, shape and content: field by field where between fields lies what nobody wrote."""
    found = np.asarray(value)
    yield f"array {found.dtype!r} {found.shape}".encode()
    if found.dtype.names:
        for name in found.dtype.names:
            yield from array(walk, found[name])
    elif found.dtype.hasobject or found.dtype.kind == "T":
        yield from _elements(walk, found.ravel())
    elif found.dtype.type in (np.longdouble, np.clongdouble) and found.dtype.itemsize > 8:
        # Of the sixteen bytes of such a number only ten are its own.
        double = np.float64 if found.dtype.kind == "f" else np.complex128
        high = found.astype(double)
        yield high.tobytes()
        yield (found - high).astype(double).tobytes()
    else:
        yield np.ascontiguousarray(found).tobytes()


def _elements(walk: Walk, values: Any) -> Iterator[bytes]:
    if all(isinstance(value, str) for value in values):  # the usual case, and a fast one
        for text in values:
            yield str(text).encode(errors="backslashreplace")
        return
    for item in values:
        yield from walk.parts(item)


def dtype(walk: Walk, value: np.dtype[Any]) -> Iterator[bytes]:
    """By its words."""
    yield f"dtype {value!r}".encode()


def of_pandas(value: Any) -> Reader | None:
    """How a value of pandas is read: there is none where nobody has imported pandas."""
    if sys.modules.get("pandas") is None:
        return None
    import pandas as pd
    from pandas.api.extensions import ExtensionArray

    readers: list[tuple[type, Reader]] = [
        (pd.DataFrame, frame),
        (pd.Series, series),
        (pd.Index, index),
        (ExtensionArray, extension),
    ]
    return next((reader for kind, reader in readers if isinstance(value, kind)), None)


def frame(walk: Walk, value: pd.DataFrame) -> Iterator[bytes]:
    """Names, index, and column by column."""
    yield from walk.all(type(value), value.columns, value.index, value.attrs)
    for place in range(value.shape[1]):
        yield from _values(walk, value.iloc[:, place].array)


def series(walk: Walk, value: pd.Series) -> Iterator[bytes]:
    """Name, index and values."""
    yield from walk.all(type(value), value.name, value.index, value.attrs)
    yield from _values(walk, value.array)


def index(walk: Walk, value: pd.Index) -> Iterator[bytes]:
    """Names and values, level by level."""
    yield from walk.all(type(value), tuple(value.names))
    yield str(getattr(value, "freq", None)).encode()
    levels = [value.get_level_values(place) for place in range(value.nlevels)]
    for level in levels:
        yield from _values(walk, level.array)


def _values(walk: Walk, value: Any) -> Iterator[bytes]:
    from pandas.api.extensions import ExtensionArray

    yield from extension(walk, value) if isinstance(value, ExtensionArray) else array(walk, value)


def extension(walk: Walk, value: Any) -> Iterator[bytes]:
    """Of pandas: the array within, the codes of categories, or pandas' own digest of each value."""
    import pandas as pd

    yield f"{type(value).__name__} {value.dtype}".encode(errors="backslashreplace")
    if isinstance(value, pd.Categorical):
        yield from array(walk, value.codes)
        yield from index(walk, value.categories)
        yield f"{value.ordered}".encode()
    elif isinstance(value, pd.arrays.NumpyExtensionArray):
        yield from array(walk, value.to_numpy())
    else:
        try:
            yield np.asarray(value.isna()).tobytes()
            yield pd.util.hash_array(value).tobytes()
        except (TypeError, ValueError, NotImplementedError) as error:
            raise UnknownContentError(f"a pandas array of {value.dtype}") from error
