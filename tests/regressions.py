"""Regressions on data sets that come with statsmodels and scikit-learn, and their objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import torch
from sklearn.datasets import load_diabetes
from torch import nn

import upweight as uw
from upweight.estimators.losses import HalfDeviance

MEASURES = (
    "hat",
    "studentised_internal",
    "studentised_external",
    "cooks_distance",
    "dffits",
    "dfbetas",
    "covariance_ratio",
)


@dataclass(frozen=True)
class Regression:
    """Columns (a constant among them), targets, and positive weights that aren't equal."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray


def data(name: str) -> Regression:
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
        frame, target = pd.DataFrame(X[:120]), y[:120]
    else:
        loaded = getattr(sm.datasets, name).load_pandas()
        frame, target = loaded.exog.drop(columns=["const"], errors="ignore"), loaded.endog.to_numpy(dtype=float)
    X = np.column_stack([frame.to_numpy(dtype=float), np.ones(len(frame))])
    return Regression(X, target, np.random.default_rng(0).uniform(0.3, 3.0, len(X)))


def objective(
    X: np.ndarray, y: np.ndarray, theta: np.ndarray, loss: Any = None, *, l2: Any = 0.0, **options: Any
) -> uw.Objective:
    """A linear layer without bias at these coefficients: the constant is a column of X."""
    layer = nn.Linear(X.shape[1], 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(theta, dtype=torch.float64)[None])
    return uw.Objective(layer, loss or uw.losses.SquaredError(), (X, y), l2=l2, **options)


def solved(X: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None, penalty: Any = 0.0) -> np.ndarray:
    """Least squares by QR of the rows times √w, with those of the penalty below."""
    root = np.ones(len(y)) if weights is None else np.sqrt(weights)
    extra = np.diag(np.sqrt(np.broadcast_to(penalty, X.shape[1:])))
    rows, targets = np.vstack([root[:, None] * X, extra]), np.concatenate([root * y, np.zeros(X.shape[1])])
    lengths = np.linalg.norm(rows, axis=0) + (rows == 0).all(0)
    return np.linalg.lstsq(rows / lengths, targets, rcond=None)[0] / lengths


def least_squares(X: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None, **options: Any) -> uw.Objective:
    return objective(X, y, solved(X, y, weights), weights=weights, **options)


LOSSES = {
    "spector": (sm.families.Binomial(), uw.losses.BinaryLogistic()),
    "cpunish": (sm.families.Poisson(), HalfDeviance(1.0)),
    "scotland": (sm.families.Gamma(sm.families.links.Log()), HalfDeviance(2.0)),
    "strikes": (sm.families.Tweedie(sm.families.links.Log(), 1.5), HalfDeviance(1.5)),
}
"""Family and loss that suit a data set."""


def glm(name: str, weighted: bool = False) -> tuple[Any, uw.Objective]:
    """A generalised linear model as statsmodels fits it, and the objective at its coefficients."""
    given, (family, loss) = data(name), LOSSES[name]
    weights = given.weights if weighted else np.ones(len(given.y))
    fit = sm.GLM(given.y, given.X, family=family, var_weights=weights).fit(tol=1e-14, maxiter=200)
    return fit, objective(given.X, given.y, fit.params, loss, weights=weights if weighted else None)


def close(found: Any, wanted: Any, tolerance: float = 1e-8) -> None:
    """Equal to within the tolerance, of the number or of 1, whichever is larger."""
    np.testing.assert_allclose(found, np.asarray(wanted), rtol=tolerance, atol=tolerance)
