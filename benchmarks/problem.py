"""The problems that every system solves: real data, weights at the optimum, queries, in one .npz per problem.

Images are stored as bytes; every reader divides by 255 and works in float32. Models have no bias and one λ for
all weights, so that a peer that knows the Hessian of the loss alone solves the same system with λ as damping.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import upweight as uw
from upweight.datasets import DataUnavailable, load
from upweight.retraining import fit

FOLDER = Path(__file__).parent / ".made"
L2 = 0.01
QUERIES = 100
TRAIN_ROWS = {"1 vs 7": 13_007, "ten digits": 55_000}
FORMAT = 1


def path(name: str) -> Path:
    """Where the problem is kept once it is made."""
    return FOLDER / f"{name.replace(' ', '-')}-{FORMAT}.npz"


def make(name: str) -> Path:
    """Write the problem unless it is there: fetch MNIST, train to the optimum in float64.

    Raises
    ------
    SystemExit
        If the data can't be had, with the reason.
    """
    target = path(name)
    if target.exists():
        return target
    try:
        data = load("mnist")
    except DataUnavailable as error:
        raise SystemExit(f"The benchmark needs MNIST, which can't be had here: {error}") from None
    train, queries = data.split("train"), data.split("test")
    if name == "1 vs 7":
        train, queries = (_pair(*split) for split in (train, queries))
    x, y = (array[: TRAIN_ROWS[name]].copy() for array in train)
    query_x, query_y = (array[:QUERIES].copy() for array in queries)
    arrays = {"x": x.reshape(len(x), -1), "y": y, "query_x": query_x.reshape(QUERIES, -1), "query_y": query_y}
    outputs = 1 if name == "1 vs 7" else 10
    start = _objective(arrays, np.zeros((outputs, 784)), L2, torch.float64)
    theta = fit(start).params.reshape(outputs, 784)
    FOLDER.mkdir(exist_ok=True)
    np.savez(target, **arrays, theta=theta.numpy(), l2=L2)
    return target


def read(name: str, dtype: torch.dtype = torch.float32, rows: int | None = None) -> tuple[uw.Objective, tuple]:
    """The objective at its optimum, on the first ``rows`` examples, and the queries."""
    with np.load(make(name)) as arrays:
        objective = _objective(arrays, arrays["theta"], float(arrays["l2"]), dtype, rows)
        return objective, _examples(arrays["query_x"], arrays["query_y"], len(arrays["theta"]), dtype)


def examples(objective: uw.Objective) -> tuple[torch.Tensor, torch.Tensor]:
    """All training examples of an objective as one batch."""
    return tuple(objective.data.take(range(objective.n)))


def _pair(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = np.isin(labels, (1, 7))
    return images[kept], (labels[kept] == 7).astype(np.int64)


def _objective(arrays, theta: np.ndarray, l2: float, dtype: torch.dtype, rows: int | None = None) -> uw.Objective:
    outputs, features = theta.shape
    model = nn.Linear(features, outputs, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta))
    loss = uw.losses.BinaryLogistic() if outputs == 1 else uw.losses.CrossEntropy()
    return uw.Objective(model, loss, _examples(arrays["x"][:rows], arrays["y"][:rows], outputs, dtype), l2=l2)


def _examples(x: np.ndarray, y: np.ndarray, outputs: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.from_numpy(y)
    return torch.from_numpy(x).to(dtype) / 255, labels.to(dtype) if outputs == 1 else labels
