"""SGDClassifier and SGDRegressor: (1/n) Σ s_i ℓ_i + ½ α‖w‖², intercepts free, one against the rest for more classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from upweight.errors import InputError
from upweight.estimators.form import Form, TrainingData, class_weights, linear_layer
from upweight.estimators.losses import PositiveWeighted, SquaredErrorOfSigns
from upweight.estimators.support_vectors import hinge
from upweight.losses import BinaryLogistic, Loss, SquaredError, SquaredHinge


def sgd_classifier(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Logistic, (squared) hinge or squared error on ±1; class weights are of each machine's own class.

    'balanced' counts rows, whatever their weights.
    """
    loss = _loss(estimator, smooth)
    by_class, weights = class_weights(estimator, data, by_row=True), data.sample_weight
    if len(estimator.classes_) == 2:
        weights = weights * by_class[data.targets]
    elif (by_class != 1).any():
        loss = PositiveWeighted(loss, tuple(by_class.tolist()))
    return _form(estimator, loss, weights)


def sgd_regressor(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Squared error."""
    return _form(estimator, _loss(estimator, smooth, regression=True), data.sample_weight)


def _loss(estimator: Any, smooth: float | None, regression: bool = False) -> Loss:
    losses: dict[str, Loss] = (
        {"squared_error": SquaredError(0.5)}
        if regression
        else {
            "log_loss": BinaryLogistic(),
            "squared_hinge": SquaredHinge(),
            "squared_error": SquaredErrorOfSigns(),
            "hinge": hinge(smooth),
        }
    )
    if estimator.loss not in losses:
        raise InputError(
            f"estimator: {type(estimator).__name__}(loss={estimator.loss!r}) is not mapped; fit with loss="
            f"{' or '.join(map(repr, losses))}"
        )
    return losses[estimator.loss]


def _form(estimator: Any, loss: Loss, weights: np.ndarray) -> Form:
    is_l2 = estimator.penalty == "l2" or (estimator.penalty == "elasticnet" and not estimator.l1_ratio)
    if not is_l2 and estimator.penalty is not None:
        raise InputError(
            f"estimator: {type(estimator).__name__}(penalty={estimator.penalty!r}) is not twice differentiable, so "
            "influence functions don't hold; fit with penalty='l2'"
        )
    intercepts = np.atleast_1d(estimator.intercept_) if estimator.fit_intercept else None
    layer = linear_layer(np.atleast_2d(estimator.coef_), intercepts)
    return Form(layer, loss, {"weight": float(estimator.alpha) if estimator.penalty else 0.0}, weights)
