"""What upweight finds: ``python -m benchmarks.tables.ours FILE.npz``, one JSON line."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from torch import nn

import upweight as uw

METHODS = ("out-of-sample", "margin", "loss")
OF_QUANTITIES = ("out-of-sample", "loss")
CHECKED = (0.05, 0.1, 0.2)
BIAS_L2 = 1e-6


def objective(design: np.ndarray, given: np.ndarray, l2: float, *, classifies: bool) -> uw.Objective:
    """The linear model of the table at its optimum."""
    layer = nn.Linear(design.shape[1], 1, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    loss: uw.losses.Loss = uw.losses.BinaryLogistic() if classifies else uw.losses.SquaredError(0.5)
    penalties = {"weight": l2, "bias": BIAS_L2 if classifies else 0.0}
    return uw.retraining.fit(uw.Objective(layer, loss, (design, given), l2=penalties))


def main() -> None:
    with np.load(sys.argv[1]) as held:
        design, given, wrong, l2 = held["design"], held["given"], held["wrong"], float(held["l2"])
    classifies = given.dtype.kind == "i"
    start = time.process_time()
    trained = objective(design, given, l2, classifies=classifies)
    found = {}
    for method in METHODS if classifies else OF_QUANTITIES:
        task = uw.tasks.label_errors if classifies else uw.tasks.target_errors
        errors = task(trained, method=method)
        found[method] = errors.recovery(wrong, CHECKED).tolist()
        if method == METHODS[0]:
            seconds = time.process_time() - start
    print(json.dumps({"recovered": found, "seconds": seconds}))


if __name__ == "__main__":
    main()
