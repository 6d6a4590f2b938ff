"""The convex tasks: MNIST and linear models at their optimum, ``python -m benchmarks.fidelity.convex 1-vs-7``.

Images are stored as bytes; every reader divides by 255 and works in float32. Models have no bias and one λ for
all weights, so that a peer that knows the Hessian of the loss alone solves the same system with λ as damping.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import upweight as uw
from benchmarks.fidelity import models
from benchmarks.fidelity.stored import path, store
from upweight.datasets import DataUnavailable, load
from upweight.retraining import fit

L2 = 0.01
QUERIES = 100
TRAIN_ROWS = {"1-vs-7": 13_007, "ten-digits": 55_000}


def make(task: str) -> None:
    """Fetch MNIST, train to the optimum in float64 and write the problem, with the arrays of `ground_truth.gather`.

    Raises
    ------
    SystemExit
        If the data can't be had, with the reason.
    """
    try:
        data = load("mnist")
    except DataUnavailable as error:
        raise SystemExit(f"The benchmark needs MNIST, which can't be had here: {error}") from None
    train, queries = data.split("train"), data.split("test")
    if task == "1-vs-7":
        train, queries = (_pair(*split) for split in (train, queries))
    (x, y), (query_x, query_y) = (
        (images[:count].reshape(-1, 784), labels[:count])
        for (images, labels), count in ((train, TRAIN_ROWS[task]), (queries, QUERIES))
    )
    store(
        path(task),
        {
            **{"x_train": x, "y_train": y, "x_test": query_x, "y_test": query_y, "l2": np.float64(L2)},
            **{"param_0": optimum(task, x, y), "subsets": np.zeros((0, 0), np.int64)},
            "losses": np.zeros((0, 1, QUERIES), np.float32),
        },
    )


def optimum(task: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The weights ``[outputs, 784]``, from zero."""
    model = models.build(task).double()
    torch.nn.init.zeros_(model.weight)
    loss = uw.losses.BinaryLogistic() if task == "1-vs-7" else uw.losses.CrossEntropy()
    labels = torch.tensor(y)
    examples = torch.tensor(x).double() / 255, labels.double() if labels.is_floating_point() else labels
    return fit(uw.Objective(model, loss, examples, l2=L2)).params.reshape(model.weight.shape).numpy()


def _pair(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ones and sevens, labelled 0.0 and 1.0."""
    kept = np.isin(labels, (1, 7))
    return images[kept], (labels[kept] == 7).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=models.CONVEX)
    make(parser.parse_args().task)


if __name__ == "__main__":
    main()
