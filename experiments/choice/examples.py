"""Examples of the tasks: inputs and labels of training data and queries, in a seeded order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

import upweight as uw

Examples = tuple[Tensor, Tensor, Tensor, Tensor]
QUERIES = 150


def shuffled(x: Tensor, y: Tensor, train: int, seed: int) -> Examples:
    """So many training examples, then the queries, of a seeded order."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    chosen, queries = order[:train], order[train : train + QUERIES]
    return x[chosen], y[chosen], x[queries], y[queries]


def digits(train: int, seed: int) -> Examples:
    """Images of 8 × 8."""
    found = uw.datasets.load("digits")
    return shuffled(torch.from_numpy(found.images).float() / 16, torch.from_numpy(found.labels), train, seed)


def images(name: Any, train: int, seed: int, *, pooled: int = 2, wrong: float = 0.0) -> Examples:
    """Of a data set's first ten thousand training images, pooled; a share of the training labels may be wrong."""
    found: Any = uw.datasets.load(name)
    x, y = found.train_images[:10_000], torch.from_numpy(found.train_labels[:10_000].copy())
    x = torch.from_numpy(x.copy()).float() / 255
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    x, y, query_x, query_y = shuffled(avg_pool2d(x, pooled) - 0.3, y, train, seed)
    generator = torch.Generator().manual_seed(seed)
    spoilt = torch.rand(len(y), generator=generator) < wrong
    y = torch.where(spoilt, torch.randint(10, y.shape, generator=generator), y)
    return x, y, query_x, query_y


def table(name: str, train: int, seed: int) -> Examples:
    """Columns of numbers standardised, words as indicators of their commonest values; missing is a value too."""
    import pandas as pd

    frame: Any = uw.datasets.load(name)  # type: ignore[call-overload]
    if name == "adult":
        y, frame = frame["income"] == ">50K", frame.drop(columns=["income", "split"])
    else:
        y, frame = frame["hospdead"] == 1, uw.datasets.support2.predictors(frame)
    rows = np.random.default_rng(seed).permutation(len(frame))[: train + QUERIES]
    frame, y = frame.iloc[rows], y.iloc[rows]
    parts = []
    for column in frame:
        if pd.api.types.is_numeric_dtype(frame[column]):
            values = frame[column].fillna(frame[column].median()).to_numpy(float)
            parts.append(((values - values.mean()) / (values.std() + 1e-9))[:, None].clip(-5, 5))
        else:
            common = frame[column].value_counts().index[:6]
            parts.append(np.stack([(frame[column] == value).to_numpy(float) for value in common], 1))
    x, labels = torch.from_numpy(np.concatenate(parts, 1)).float(), torch.from_numpy(y.to_numpy().copy()).long()
    return x[:train], labels[:train], x[train:], labels[train:]
