"""Rows of numbers as bytes, in the precision of an index, and back piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.errors import InputError
from upweight.store import tensors

Dtype = Literal["float64", "float32", "bfloat16", "int8"]
FLOATS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
STORED = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "I8": torch.int8, "I64": torch.int64}
"""Kinds of numbers by safetensors' names."""
LARGEST = 127
PIECE = 2**21
"""Numbers that are decoded at a time: what stays in a processor's cache."""


def encode(
    rows: Float[Tensor, "b k"], widths: Sequence[int], dtype: Dtype, others: Mapping[str, Tensor] | None = None
) -> bytes:
    """Rows as bytes; of int8 every part of a row (``widths``) has a scale of its own, its largest entry over 127."""
    if dtype != "int8":
        return tensors.pack({"values": rows.to(FLOATS[dtype]), **(others or {})})
    parts, scales = [], []
    for part in rows.split(list(widths), dim=1):
        scale = part.abs().amax(1, keepdim=True) / LARGEST if part.shape[1] else part.new_zeros(len(part), 1)
        whole = (part / torch.where(scale > 0, scale, 1)).round_().clamp_(-LARGEST, LARGEST)
        parts.append(whole.to(torch.int8))
        scales.append(scale.float())
    return tensors.pack({"values": torch.cat(parts, 1), "scales": torch.cat(scales, 1), **(others or {})})


def views(content: Any, name: str) -> dict[str, Tensor]:
    """The tensors in bytes of `upweight.store.tensors`, without a copy; ``content`` may be a map of a file's memory.

    Raises
    ------
    InputError
        If the bytes are none of ours.
    """
    try:
        length = int.from_bytes(content[:8], "little")
        header: dict[str, Any] = json.loads(bytes(content[8 : 8 + length]))
        header.pop("__metadata__", None)
        return {key: _view(content, 8 + length, said) for key, said in header.items()}
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"store: {name} holds no rows of an index ({error})") from error


def _view(content: Any, start: int, said: Mapping[str, Any]) -> Tensor:
    dtype, shape, (begin, end) = STORED[said["dtype"]], said["shape"], said["data_offsets"]
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    count = (end - begin) // dtype.itemsize
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start + begin).reshape(shape)


def pieces(count: int, width: int) -> Iterator[slice]:
    """Slices of ``count`` rows that are decoded together."""
    step = max(PIECE // max(width, 1), 1)
    yield from (slice(start, min(start + step, count)) for start in range(0, count, step))


def working(dtype: Dtype) -> torch.dtype:
    """Precision in which rows are multiplied."""
    return torch.float64 if dtype == "float64" else torch.float32


def decode(stored: Mapping[str, Tensor], chosen: slice | Tensor, widths: Sequence[int]) -> Float[Tensor, "b k"]:
    """Some of the rows, in float32 (float64 where they are so)."""
    values = stored["values"][chosen]
    if values.dtype in (torch.float32, torch.float64):
        return values
    rows = values.float()
    if "scales" in stored:
        scales = stored["scales"][chosen]
        for number, part in enumerate(rows.split(list(widths), dim=1)):
            part.mul_(scales[:, number : number + 1])
    return rows
