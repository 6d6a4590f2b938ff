"""MNIST and Fashion-MNIST: four idx files, bare or gzipped.

The idx format is two zero bytes, a type code (8: unsigned byte), the number of dimensions, each dimension's
size as a big-endian 32-bit integer, and then the elements in C order.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from upweight.datasets.archives import members
from upweight.datasets.dataset import Array, Dataset, read_arrays, write_arrays
from upweight.datasets.registry import DatasetInfo

_FILES = {
    "train-images-idx3-ubyte": "train_images",
    "train-labels-idx1-ubyte": "train_labels",
    "t10k-images-idx3-ubyte": "test_images",
    "t10k-labels-idx1-ubyte": "test_labels",
}
_UNSIGNED_BYTE = 8


def parse_idx(content: bytes) -> Array:
    """The uint8 array in the content of an idx file, in the shape that its header states.

    Raises
    ------
    ValueError
        If it is not an idx file of unsigned bytes, or its length differs from what the header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise ValueError(f"not an idx file of unsigned bytes: it starts with {content[:4]!r}")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"an idx file of {content[3]} dimensions cannot have {len(content)} bytes")
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if len(content) != start + int(np.prod(shape)):
        raise ValueError(f"an idx file of shape {shape} cannot have {len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Write images (uint8, n × 28 × 28) and labels (int64, n) of both splits, in their canonical order."""
    arrays = {}
    for path, content in members(archives[0], lambda path: _stem(path) in _FILES):
        name = _FILES[_stem(path)]
        array = parse_idx(gzip.decompress(content) if path.endswith(".gz") else content)
        arrays[name] = array.astype(np.int64) if name.endswith("labels") else array
    write_arrays(entry, arrays)


def read(entry: Path, info: DatasetInfo) -> Dataset:
    """The four arrays of a cache entry."""
    return read_arrays(entry, info)


def _stem(path: str) -> str:
    return PurePosixPath(path).name.removesuffix(".gz")
