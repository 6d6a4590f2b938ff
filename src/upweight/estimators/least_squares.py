"""Ridge(CV), RidgeClassifier(CV), LinearRegression: Σ s_i ½‖y_i − f(x_i)‖² + ½ α‖W‖², intercepts free.

The classifiers are a ridge on ±1, one against the rest for more than two classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from upweight.estimators.form import Form, TrainingData, class_weights, linear_layer, refuse_positive
from upweight.estimators.losses import SquaredErrorOfSigns
from upweight.losses import Loss, SquaredError
from upweight.messages import InputError


def ridge(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Ridge with α = ``alpha``, RidgeCV with the chosen ``alpha_``."""
    return _linear(estimator, SquaredError(0.5), _alpha(estimator) / data.n, data.sample_weight)


def ridge_classifier(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """The same on ±1; class weights multiply sample weights ('balanced' counts rows, whatever their weights)."""
    weights = data.sample_weight * class_weights(estimator, data, by_row=True)[data.targets]
    return _linear(estimator, SquaredErrorOfSigns(), _alpha(estimator) / data.n, weights)


def linear_regression(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Ordinary least squares: no penalty."""
    return _linear(estimator, SquaredError(0.5), 0.0, data.sample_weight)


def _alpha(estimator: Any) -> float:
    name = "alpha_" if hasattr(estimator, "alpha_") else "alpha"
    alphas = np.unique(np.asarray(getattr(estimator, name), dtype=np.float64))
    if len(alphas) > 1:
        raise InputError(
            f"estimator: {name} holds {len(alphas)} different values, one per target (first {alphas[0]:g} and "
            f"{alphas[1]:g}); use one α for all, or fit and convert one Ridge per target"
        )
    return float(alphas[0])


def _linear(estimator: Any, loss: Loss, l2: float, weights: np.ndarray) -> Form:
    refuse_positive(estimator)
    intercepts = np.atleast_1d(estimator.intercept_) if estimator.fit_intercept else None
    return Form(linear_layer(np.atleast_2d(estimator.coef_), intercepts), loss, {"weight": l2}, weights)
