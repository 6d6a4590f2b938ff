"""Coefficients that are no minimum of the data given are told from those that a solver's tolerance leaves."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import upweight as uw
from upweight.errors import NotStationaryWarning


def standardised(data: Any) -> tuple[np.ndarray, np.ndarray]:
    X, y = data
    return StandardScaler().fit_transform(X), y


CLASSES = {
    "cancer": standardised(load_breast_cancer(return_X_y=True)),
    "cancer, raw": load_breast_cancer(return_X_y=True),
    "iris": load_iris(return_X_y=True),
    "wine": standardised(load_wine(return_X_y=True)),
    "made": make_classification(200, 10, random_state=0),
}
SOLVERS = ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga", "liblinear")
OPTIONS: list[dict[str, Any]] = [{}, {"C": 0.01}, {"class_weight": "balanced"}, {"fit_intercept": False}]


def converged(estimator: Any, X: Any, y: Any, **options: Any) -> Any:
    """Fitted; skips where scikit-learn itself says that it isn't."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return estimator.fit(X, y, **options)
        except ConvergenceWarning:
            pytest.skip("scikit-learn says that it has not converged")


def said(estimator: Any, X: Any, y: Any, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        uw.from_estimator(estimator, X, y, **options)
    return [str(each.message) for each in caught if issubclass(each.category, NotStationaryWarning)]


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_solver_that_converged_is_doubted(name: str, solver: str, options: dict[str, Any]) -> None:
    X, y = CLASSES[name]
    if solver == "liblinear" and len(set(y)) > 2:
        pytest.skip("liblinear knows two classes")
    if solver in ("sag", "saga") and name == "cancer, raw":
        pytest.skip("never converges on columns of such different sizes")
    weights = None if options else np.random.default_rng(0).uniform(0.1, 3, len(y))
    estimator = converged(LogisticRegression(solver=solver, max_iter=2000, **options), X, y, sample_weight=weights)
    assert said(estimator, X, y, sample_weight=weights) == []


@pytest.mark.parametrize("solver", ["auto", "svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga"])
@pytest.mark.parametrize("scaled", [True, False])
def test_no_least_squares_is_doubted(solver: str, scaled: bool) -> None:
    X, y = load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X) if scaled else X
    assert said(converged(Ridge(solver=solver, max_iter=5000), X, y), X, y) == []


@pytest.mark.parametrize("seed", range(100))
def test_no_exact_fit_is_doubted_on_columns_of_any_size(seed: int) -> None:
    """As many coefficients as examples: residuals are rounding, and so is ∇R."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    X = rng.normal(size=(n, n + int(rng.integers(-1, 3)))) * 10 ** rng.uniform(-3, 3, 1) + 10 * rng.normal()
    y = rng.normal(size=n) * 10 ** rng.uniform(-3, 3)
    assert said(LinearRegression(fit_intercept=bool(seed % 2)).fit(X, y), X, y) == []


@pytest.mark.parametrize("estimator", [LinearRegression(), RidgeCV(), LinearSVC(max_iter=100_000), LinearSVC(C=0.01)])
def test_no_other_estimator_is_doubted(estimator: Any) -> None:
    X, y = CLASSES["cancer"]
    assert said(converged(estimator, X, y), X, y) == []


def test_a_pipeline_and_a_cross_validated_one_are_not_doubted() -> None:
    X, y = CLASSES["cancer, raw"]
    assert said(converged(make_pipeline(StandardScaler(), LogisticRegression()), X, y), X, y) == []
    X, y = CLASSES["made"]
    assert said(converged(LogisticRegressionCV(Cs=3, cv=3), X, y), X, y) == []


def test_a_fit_that_was_cut_off_is_told_with_its_figures() -> None:
    X, y = CLASSES["made"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = LogisticRegression(max_iter=2).fit(X, y)
    (words,) = said(estimator, X, y)
    assert "where its solver leaves 1.0e-04" in words
    assert "× what leaving one example out changes" in words
    assert "It stopped at max_iter=2: fit it with more" in words


ESTIMATORS = [LogisticRegression(), LogisticRegression(solver="liblinear"), Ridge(), LinearRegression(), LinearSVC()]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_withheld_are_told(estimator: Any) -> None:
    X, y = CLASSES["made"]
    weights = np.random.default_rng(0).uniform(0.1, 3, len(y))
    estimator.fit(X, y, sample_weight=weights)
    assert said(estimator, X, y, sample_weight=weights) == []
    (words,) = said(estimator, X, y)
    assert "Give the X, y and sample_weight that it was fitted on" in words


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_other_rows_are_told(estimator: Any) -> None:
    X, y = make_classification(220, 10, random_state=0)
    estimator.fit(X[:200], y[:200])
    assert len(said(estimator, X[20:], y[20:])) == 1
