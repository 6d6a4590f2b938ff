"""Names and columns of examples in a store, in blocks of rows: what is asked for is read and checked, and no more."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from upweight.errors import InputError
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack, unpack

BYTES = 2**20
"""Bytes of a block, about."""
NUMBERS = "biufMm"
"""NumPy's kinds that are kept as numbers."""
FILES = ("text", "bytes")
"""Kinds of entries that have lengths of their own."""
PLAIN: dict[type, str | type] = {
    int: np.int64,
    float: np.float64,
    bool: np.bool_,
    datetime.date: "datetime64[D]",
    datetime.datetime: "datetime64[us]",
    datetime.timedelta: "timedelta64[us]",
}
"""Python's own kinds, as NumPy's."""
SURROGATES: Any = {"encoding": "utf-8", "errors": "surrogatepass"}


def checked(name: str, values: Sequence[Any] | np.ndarray, count: int) -> np.ndarray:
    """A column that can be kept.

    Raises
    ------
    InputError
        If it isn't one value for each of ``count`` examples, all of them numbers, times or text.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() and values.itemsize < 4 else values).numpy()
    array = np.asarray(values)
    if array.dtype.kind == "U" and isinstance(values, list | tuple) and array.tolist() != list(values):
        array = np.asarray(values, dtype=object)  # 1 beside "a" is not "1"; zeros at a text's end belong to it
    if array.shape != (count,):
        got = f"shape {array.shape}" if array.ndim else repr(values)[:80]
        raise InputError(f"{name}: give one value for each of the {count:,} examples; got {got}")
    if array.dtype.kind in NUMBERS and array.dtype.itemsize <= 8:
        return array
    texts = array.tolist()
    kinds = {type(text) for text in texts}
    if len(kinds) == 1 and (dtype := PLAIN.get(next(iter(kinds)))) is not None:
        with suppress(OverflowError, ValueError):  # whole numbers beyond 64 bits; time zones
            return np.array(texts, dtype=dtype)
    odd = [text for text in texts if not isinstance(text, str)][:1]
    if odd or array.dtype.kind not in "UO":
        shown = f"{odd[0]!r} is a {type(odd[0]).__name__}" if odd else f"they are {array.dtype}"
        raise InputError(f"{name}: {shown}, which can't be kept; give one kind of numbers, times or strings")
    return _texts(texts)


def write(blocks: Blocks, name: str, values: np.ndarray) -> dict[str, Any]:
    """Commit a `checked` column; what says how it is kept, of JSON's kinds."""
    said = {"name": name, "kind": "text", "count": len(values)}
    if values.dtype.kind in NUMBERS:
        if values.dtype.kind in "iu" and np.array_equal(values, np.arange(len(values))):
            return {**said, "kind": "positions"}
        rows = max(BYTES // values.dtype.itemsize, 1)
        for number, start in enumerate(range(0, len(values), rows)):
            part = np.frombuffer(values[start : start + rows].tobytes(), dtype=np.uint8).copy()
            blocks.commit(f"{name}-{number:06d}", pack({"values": torch.from_numpy(part)}))
        return {**said, "kind": values.dtype.str, "rows": rows}
    return write_bytes(blocks, name, [text.encode(**SURROGATES) for text in values.tolist()], kind="text")


def write_bytes(blocks: Blocks, name: str, values: Sequence[bytes], kind: str = "bytes") -> dict[str, Any]:
    """The same of files: pictures, each as its bytes."""
    rows = max(BYTES // max(sum(map(len, values)) // max(len(values), 1) + 8, 1), 1)
    for number, start in enumerate(range(0, len(values), rows)):
        some = values[start : start + rows]
        ends = np.cumsum([0, *map(len, some)], dtype=np.int64)
        content = np.frombuffer(b"".join(some), dtype=np.uint8).copy()
        held = {"ends": torch.from_numpy(ends), "bytes": torch.from_numpy(content)}
        blocks.commit(f"{name}-{number:06d}", pack(held))
    return {"name": name, "kind": kind, "count": len(values), "rows": rows}


def blocks_of(said: dict[str, Any]) -> list[str]:
    """Names of the blocks of a column, by what `write` said of it."""
    if "rows" not in said:
        return []
    return [f"{said['name']}-{number:06d}" for number in range(-(-said["count"] // said["rows"]))]


@dataclass(frozen=True, eq=False)
class Column:
    """A column in a store.

    Attributes
    ----------
    said
        What `write` said of it.
    """

    blocks: Blocks
    said: dict[str, Any]

    def __len__(self) -> int:
        return int(self.said["count"])

    def __getitem__(self, positions: Any) -> np.ndarray:
        """The entries at these positions (a slice, or an array of whatever shape), read from the store."""
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(len(self)))
        chosen = np.asarray(positions)
        if self.said["kind"] == "positions":
            return chosen
        flat = chosen.reshape(-1)
        found: list[Any] = [None] * len(flat)
        for number in np.unique(flat // self.said["rows"]).tolist():
            part = self._part(number)
            for place in np.flatnonzero(flat // self.said["rows"] == number).tolist():
                found[place] = part[int(flat[place]) % self.said["rows"]]
        return _array(found, self.said["kind"]).reshape(chosen.shape)

    def all(self) -> np.ndarray:
        """Every entry, in order."""
        if self.said["kind"] == "positions":
            return np.arange(len(self))
        parts = [self._part(number) for number in range(-(-len(self) // self.said["rows"]))]
        if self.said["kind"] in FILES:
            return _array([each for part in parts for each in part], self.said["kind"])
        return np.concatenate([np.asarray(part) for part in parts]) if parts else np.array([], self.said["kind"])

    def entries(self) -> list[Any]:
        """Every entry, in order, as Python's own values: of texts of very different lengths it holds much less."""
        if self.said["kind"] not in FILES:
            found: list[Any] = self.all().tolist()
            return found
        return [each for number in range(-(-len(self) // self.said["rows"])) for each in self._part(number)]

    def _part(self, number: int) -> Any:
        if number not in self._last:
            tensors, _ = unpack(self.blocks.content(f"{self.said['name']}-{number:06d}"))
            self._last.clear()
            self._last[number] = _entries(tensors, self.said["kind"])
        return self._last[number]

    @cached_property
    def _last(self) -> dict[int, Any]:
        """The block that was read last."""
        return {}


def _array(found: list[Any], kind: str) -> np.ndarray:
    if kind == "text":
        return _texts(found)
    return _objects(found) if kind == "bytes" else np.array(found, dtype=np.dtype(kind))


def _texts(found: list[str]) -> np.ndarray:
    """As NumPy's text, or as objects where that would lose something: zeros at a text's end."""
    return _objects(found) if any(text.endswith("\0") for text in found) else np.array(found, dtype=str)


def _objects(found: list[Any]) -> np.ndarray:
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array


def _entries(tensors: dict[str, torch.Tensor], kind: str) -> Any:
    if kind not in FILES:
        return np.frombuffer(tensors["values"].numpy().tobytes(), dtype=np.dtype(kind))
    content, ends = tensors["bytes"].numpy().tobytes(), tensors["ends"].tolist()
    found = [content[begin:end] for begin, end in pairwise(ends)]
    return found if kind == "bytes" else [each.decode(**SURROGATES) for each in found]
