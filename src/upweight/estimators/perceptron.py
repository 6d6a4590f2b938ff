"""MLPClassifier and MLPRegressor: (1/Σs) Σ s_i ℓ_i + ½ λ Σ‖W_k‖², biases free.

λ is α/Σs where all examples are one batch (lbfgs), and α over a batch's weights for sgd and adam, which add the whole
penalty to every batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from upweight.errors import InputError
from upweight.estimators.form import Form, TrainingData, linear_layer
from upweight.estimators.losses import HalfDeviance
from upweight.losses import BinaryLogistic, CrossEntropy, Loss, SquaredError

ACTIVATIONS = {"identity": nn.Identity, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
BATCH = 200
"""scikit-learn's batch_size='auto', where there are as many examples."""


def perceptron(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Outputs are those before the last activation: logits, log means under the Poisson loss, else predictions."""
    layers: list[nn.Module] = []
    for weights, biases in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        layers += [
            linear_layer(np.asarray(weights, dtype=np.float64).T, np.asarray(biases, dtype=np.float64)),
            ACTIVATIONS[estimator.activation](),
        ]
    model = nn.Sequential(*layers[:-1])
    total = float(data.sample_weight.sum())
    batch = total if estimator.solver == "lbfgs" else total / data.n * _batch(estimator, data.n)
    penalties = {f"{2 * k}.weight": float(estimator.alpha) / batch for k in range(len(estimator.coefs_))}
    return Form(model, _loss(estimator), penalties, data.sample_weight * (data.n / total))


def _batch(estimator: Any, n: int) -> int:
    return min(BATCH if estimator.batch_size == "auto" else int(estimator.batch_size), n)


def _loss(estimator: Any) -> Loss:
    if hasattr(estimator, "classes_"):
        return BinaryLogistic() if len(estimator.classes_) == 2 else CrossEntropy()
    name = getattr(estimator, "loss", "squared_error")
    if name == "squared_error":
        return SquaredError(0.5)
    if name == "poisson":
        return HalfDeviance(1.0)
    raise InputError(
        f"estimator: MLPRegressor(loss={name!r}) is not mapped; fit with loss='squared_error' or 'poisson'"
    )
