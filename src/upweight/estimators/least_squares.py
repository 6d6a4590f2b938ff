"""Ridge(CV), RidgeClassifier(CV), LinearRegression: Σ s_i ½‖y_i − f(x_i)‖² + ½ α‖W‖², intercepts free.

The classifiers are a ridge on ±1, one against the rest for more than two classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from upweight.errors import InputError, UpweightWarning, warn
from upweight.estimators.form import Form, TrainingData, class_weights, linear_layer, refuse_positive
from upweight.estimators.losses import SquaredErrorOfSigns
from upweight.losses import Loss, SquaredError

ROUNDING = 100
"""Multiples of the precision, of the largest singular value, up to which one is rounding."""


def ridge(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Ridge with α = ``alpha``, RidgeCV with the chosen ``alpha_``."""
    return _linear(estimator, SquaredError(0.5), _alpha(estimator) / data.n, data.sample_weight)


def ridge_classifier(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """The same on ±1; class weights multiply sample weights ('balanced' counts rows, whatever their weights)."""
    weights = data.sample_weight * class_weights(estimator, data, by_row=True)[data.targets]
    return _linear(estimator, SquaredErrorOfSigns(), _alpha(estimator) / data.n, weights)


def linear_regression(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Ordinary least squares: no penalty, on the directions of X that the fit kept.

    LinearRegression leaves out directions whose singular value is below ``tol`` of the largest (columns that depend on
    each other, but also columns of small units). Its coefficients are a minimum among the directions kept alone, and
    so that is what is objective here: θ are the coefficients along these.
    """
    refuse_positive(estimator)
    rank, d = (
        int(np.max(estimator.rank_ if hasattr(estimator, "rank_") else data.features.shape[1])),
        data.features.shape[1],
    )
    if rank >= d:
        return _linear(estimator, SquaredError(0.5), 0.0, data.sample_weight)
    weights = data.sample_weight
    centre = np.average(data.features, axis=0, weights=weights) if estimator.fit_intercept else np.zeros(d)
    centred = np.sqrt(weights)[:, None] * (data.features - centre)
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    _say_left_out(estimator, rank, d, sizes)
    kept = linear_layer(rows[:rank], -rows[:rank] @ centre).requires_grad_(False)
    coefficients = np.atleast_2d(estimator.coef_)
    intercepts = np.atleast_1d(estimator.intercept_) + coefficients @ centre if estimator.fit_intercept else None
    top = linear_layer(coefficients @ rows[:rank].T, intercepts)
    return Form(nn.Sequential(kept, top), SquaredError(0.5), {"1.weight": 0.0}, weights)


def _say_left_out(estimator: Any, rank: int, d: int, sizes: np.ndarray) -> None:
    """Warn where what was left out is more than rounding: columns of small units, say."""
    if rank < len(sizes) and sizes[rank] > ROUNDING * np.finfo(float).eps * sizes[0]:
        tol = getattr(estimator, "tol", None)
        warn(
            f"estimator: LinearRegression(tol={tol}) kept {rank} of {d} directions of X and left out some that hold "
            f"more than rounding (singular value {sizes[rank]:.1e}, the largest is {sizes[0]:.1e}), as if columns of "
            "small units were not there; scores are those of this fit. Scale the columns (StandardScaler in a "
            "Pipeline), or fit with a smaller tol",
            UpweightWarning,
        )


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
