"""Ridge, RidgeCV and LinearRegression: Σ s_i ½‖y_i − f(x_i)‖² + ½ α‖W‖², intercepts free."""

from __future__ import annotations

from typing import Any

import numpy as np

from upweight.estimators.form import Form, TrainingData, linear_layer, refuse_positive
from upweight.losses import SquaredError
from upweight.messages import InputError


def ridge(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Ridge with α = ``alpha``, RidgeCV with the chosen ``alpha_``."""
    refuse_positive(estimator)
    name = "alpha_" if hasattr(estimator, "alpha_") else "alpha"
    alphas = np.unique(np.asarray(getattr(estimator, name), dtype=np.float64))
    if len(alphas) > 1:
        raise InputError(
            f"estimator: {name} holds {len(alphas)} different values, one per target (first {alphas[0]:g} and "
            f"{alphas[1]:g}); use one α for all, or fit and convert one Ridge per target"
        )
    return _squared_error(estimator, data, float(alphas[0]) / data.n)


def linear_regression(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Ordinary least squares: no penalty."""
    refuse_positive(estimator)
    return _squared_error(estimator, data, 0.0)


def _squared_error(estimator: Any, data: TrainingData, l2: float) -> Form:
    coefficients = np.atleast_2d(estimator.coef_)
    intercepts = np.atleast_1d(estimator.intercept_) if estimator.fit_intercept else None
    layer = linear_layer(coefficients, intercepts)
    return Form(layer, SquaredError(0.5), {"weight": l2}, data.sample_weight)
