"""CIFAR-10: six PNG files, each with one batch of 10,000 images as its rows, and JSON lists of labels."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from upweight.datasets.archives import members
from upweight.datasets.dataset import Array, Dataset, read_arrays, write_arrays
from upweight.datasets.registry import DatasetInfo

_TRAIN = tuple(f"data_batch_{k}.png" for k in range(1, 6))
_TEST = ("test_batch.png",)
_LABELS = {"train_lables.json": "train_labels", "test_lables.json": "test_labels"}  # the package's spelling


def convert(archives: Sequence[Path], entry: Path) -> None:
    """Write images (uint8, n × 32 × 32 × 3, RGB) and labels (int64, n), in canonical batch order."""
    batches: dict[str, Array] = {}
    labels: dict[str, Array] = {}
    for path, content in members(archives[0], lambda path: _file(path) in (*_TRAIN, *_TEST, *_LABELS)):
        name = _file(path)
        if name in _LABELS:
            labels[_LABELS[name]] = np.array(json.loads(content), np.int64)
        else:
            batches[name] = decode_batch(content)
    train = np.concatenate([batches.pop(name) for name in _TRAIN])
    write_arrays(entry, {"train_images": train, "test_images": batches[_TEST[0]], **labels})


def decode_batch(content: bytes) -> Array:
    """The images in one batch file: a PNG whose rows are images, as uint8 ``[images, 32, 32, 3]``."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as png:
        pixels = png.convert("RGB")
    return np.asarray(pixels).reshape(-1, 32, 32, 3)


def read(entry: Path, info: DatasetInfo) -> Dataset:
    """The four arrays of a cache entry."""
    return read_arrays(entry, info)


def _file(path: str) -> str:
    return PurePosixPath(path).name
