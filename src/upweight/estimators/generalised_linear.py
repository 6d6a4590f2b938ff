"""PoissonRegressor, GammaRegressor, TweedieRegressor: (1/Σs) Σ s_i ½ deviance(y_i, μ_i) + ½ α‖w‖², intercept free."""

from __future__ import annotations

from typing import Any

import numpy as np

from upweight.errors import InputError
from upweight.estimators.form import Form, TrainingData, linear_layer
from upweight.estimators.losses import HalfDeviance
from upweight.losses import Loss, SquaredError

POWERS = {"PoissonRegressor": 1.0, "GammaRegressor": 2.0}


def generalised_linear(estimator: Any, data: TrainingData, smooth: float | None) -> Form:
    """Outputs are log μ; those of a Tweedie regression of power 0 with the identity as its link are μ."""
    power = POWERS.get(type(estimator).__name__)
    loss = HalfDeviance(power) if power is not None else _tweedie(estimator)
    intercepts = np.atleast_1d(estimator.intercept_) if estimator.fit_intercept else None
    layer = linear_layer(np.atleast_2d(estimator.coef_), intercepts)
    weights = data.sample_weight * (data.n / data.sample_weight.sum())
    return Form(layer, loss, {"weight": float(estimator.alpha)}, weights)


def _tweedie(estimator: Any) -> Loss:
    link = estimator.link if estimator.link != "auto" else "identity" if estimator.power <= 0 else "log"
    if link == "log":
        return HalfDeviance(float(estimator.power))
    if estimator.power == 0:
        return SquaredError(0.5)
    raise InputError(
        f"estimator: TweedieRegressor(power={estimator.power:g}, link={estimator.link!r}) has means that may turn "
        "negative, where its deviance isn't defined; fit with link='log'"
    )
