"""The digits that come with scikit-learn: small, and there without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from upweight.datasets.dataset import Dataset
from upweight.datasets.errors import DataUnavailable
from upweight.datasets.registry import DatasetInfo
from upweight.optional import pip


def is_installed() -> bool:
    """Whether scikit-learn, which carries the data, can be imported."""
    return importlib.util.find_spec("sklearn") is not None


def location(info: DatasetInfo) -> Path:
    """The file in scikit-learn's own folder."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataUnavailable(info.name, "it comes with scikit-learn, which is not installed.", pip("data"))
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def read(info: DatasetInfo) -> Dataset:
    """Images (uint8, 1797 × 8 × 8, grey levels 0 to 16) and labels (int64, 1797)."""
    location(info)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Dataset(info, {"images": bunch.images.astype(np.uint8), "labels": bunch.target.astype(np.int64)})
