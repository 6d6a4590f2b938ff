"""The formulas against real refits, and what must change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from torch import nn

import upweight as uw
from regressions import LOSSES, MEASURES, close, data, least_squares, objective, solved


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_least_squares_and_ridge_without_each_row(alpha: float, weighted: bool) -> None:
    """Every measure from n refits, their traces and covariances, the constant not penalised."""
    given = data("stackloss")
    X = np.c_[(given.X[:, :-1] - given.X[:, :-1].mean(0)) / given.X[:, :-1].std(0), np.ones(len(given.y))]
    y, n, p = given.y, *X.shape
    w = given.weights if weighted else np.ones(n)
    penalty = np.array([alpha, alpha, alpha, 0.0])

    def fitted(rows: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, float]:
        theta = solved(X[rows], y[rows], w[rows], penalty)
        gram = X[rows].T @ (w[rows, None] * X[rows])
        inverse = np.linalg.inv(gram + np.diag(penalty))
        trace = np.trace(inverse @ gram)
        return theta, w[rows] @ (y[rows] - X[rows] @ theta) ** 2 / (len(rows) - trace), inverse, trace

    everything = np.arange(n)
    theta, dispersion, inverse, trace = fitted(everything)
    layer = nn.Linear(p - 1, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(theta[:-1])[None])
        layer.bias.fill_(theta[-1])
    found = uw.statistics(
        uw.Objective(
            layer, uw.losses.SquaredError(), (X[:, :-1], y), l2={"weight": alpha / n}, weights=w if weighted else None
        )
    )
    close(found.effective_parameters, trace)
    close(found.dispersion, dispersion)
    for i in range(n):
        without, variance, smaller, _ = fitted(np.delete(everything, i))
        quadratic, move = X[i] @ inverse @ X[i], theta - without
        hat = w[i] * quadratic
        residual = np.sqrt(w[i]) * (y[i] - X[i] @ theta)
        close(found.hat[i], hat)
        close(found.studentised_internal[i], residual / np.sqrt(dispersion * (1 - hat)))
        close(found.studentised_external[i], residual / np.sqrt(variance * (1 - hat)))
        close(found.cooks_distance[i], move @ np.linalg.solve(inverse, move) / (trace * dispersion))
        close(found.dffits[i], X[i] @ move / np.sqrt(variance * quadratic))
        close(found.dfbetas[i], move / np.sqrt(variance * np.diag(inverse)))
        close(found.covariance_ratio[i], np.linalg.det(variance * smaller) / np.linalg.det(dispersion * inverse))


def test_the_estimator_s_own_refits() -> None:
    given = data("diabetes")
    X, y = pd.DataFrame(10 * given.X[:, :-1]).add_prefix("c"), given.y
    found = uw.statistics(Ridge(alpha=0.7).fit(X, y), X, y)
    assert found.names == (*X.columns, "intercept")
    frame = found.to_pandas()
    refit = Ridge(alpha=0.7).fit(X.drop(index=5), y[np.arange(len(y)) != 5])
    full = Ridge(alpha=0.7).fit(X, y)
    move = np.append(full.coef_ - refit.coef_, full.intercept_ - refit.intercept_)
    kept = frame.loc[5, [f"dfb_{name}" for name in found.names]].to_numpy(dtype=float)
    ratio = move / kept
    columns = np.c_[X, np.ones(len(y))]
    inverse = np.linalg.inv(columns.T @ columns + np.diag([0.7] * 10 + [0.0]))
    np.testing.assert_allclose(ratio / np.sqrt(np.diag(inverse)), np.full(11, ratio[0] / np.sqrt(inverse[0, 0])))


@pytest.mark.parametrize("name", ["spector", "cpunish"])
def test_one_step_is_a_step_of_newton_s_method_from_the_full_fit(name: str) -> None:
    """Without the row and with an l2 penalty, which statsmodels doesn't know."""
    given = data(name)
    X = np.c_[given.X[:, :-1] / np.abs(given.X[:, :-1]).max(0), np.ones(len(given.y))]
    start = objective(X, given.y, np.zeros(X.shape[1]), LOSSES[name][1], l2=0.02, weights=given.weights)
    fitted = uw.retraining.fit(start, tolerance=1e-12)
    found = uw.statistics(fitted)
    n, theta = len(given.y), fitted.params.clone()
    hessian = torch.func.hessian(lambda v: _risk(fitted, v, None))(theta)
    for i in (0, 3, n - 1):
        slope = torch.func.grad(lambda v, i=i: _risk(fitted, v, i))(theta)
        step = torch.linalg.solve(torch.func.hessian(lambda v, i=i: _risk(fitted, v, i))(theta), slope)
        close(found.dfbetas[i], (step / torch.linalg.inv(n * hessian).diagonal().sqrt()).numpy(), 1e-7)


def _risk(objective: uw.Objective, theta: torch.Tensor, without: int | None) -> torch.Tensor:
    X, y = objective.data.take(range(objective.n))
    weights = objective.weights.clone()
    if without is not None:
        weights[without] = 0
    losses = objective.loss.compare(X @ theta, y)
    return (weights * losses).mean() + objective.penalty(theta)


FITS = {
    "least squares": lambda X, y, w, **o: least_squares(X, y, w, **o),
    "ridge": lambda X, y, w, **o: objective(X, y, solved(X, y, w, 0.5 * len(y)), weights=w, l2=0.5, **o),
}


@settings(deadline=None, max_examples=40)
@drawn(st.integers(0, 2**32 - 1), st.sampled_from(sorted(FITS)), st.integers(1, 7))
def test_neither_row_order_nor_batch_size_matter(seed: int, kind: str, batch: int) -> None:
    rng = np.random.default_rng(seed)
    X, y, w = rng.normal(size=(17, 4)), rng.normal(size=17), rng.uniform(0.1, 2, 17)
    order = rng.permutation(17)
    once = uw.statistics(FITS[kind](X, y, w)).to_pandas()
    again = uw.statistics(FITS[kind](X[order], y[order], w[order], ids=order, batch_size=batch)).to_pandas()
    np.testing.assert_allclose(again.loc[once.index], once, rtol=1e-8, atol=1e-10)


@settings(deadline=None, max_examples=40)
@drawn(st.integers(0, 2**32 - 1), st.floats(-60, 60), st.booleans())
def test_units_of_a_column_and_of_the_targets_are_no_matter(seed: int, exponent: float, negative: bool) -> None:
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(17, 4)), rng.normal(size=17)
    scale = 10.0**exponent
    once = uw.statistics(least_squares(X, y)).to_pandas()
    column = uw.statistics(least_squares(X * [1, scale, 1, 1], y)).to_pandas()
    np.testing.assert_allclose(column, once, rtol=1e-8, atol=1e-10)
    target = uw.statistics(least_squares(X, (-scale if negative else scale) * y)).to_pandas()
    odd = [name for name in once if name.startswith(("stud", "dff", "dfb"))]
    once[odd] *= -1 if negative else 1
    np.testing.assert_allclose(target, once, rtol=1e-8, atol=1e-10)


def test_units_of_a_column_are_no_matter_in_a_logistic_regression() -> None:
    given = data("spector")
    frames = []
    for scale in (1.0, 1e6):
        fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
        X = (given.X[:, :-1] - given.X[:, :-1].mean(0)) / given.X[:, :-1].std(0)
        fit.fit(X, given.y)
        fit.coef_ = fit.coef_ / [[scale, 1, 1]]
        frames.append(uw.statistics(fit, X * [scale, 1, 1], given.y).to_pandas())
    np.testing.assert_allclose(frames[1], frames[0], rtol=1e-9)


def test_nearly_collinear_columns_keep_their_digits() -> None:
    """Against the same regression on columns that aren't: the hat matrix and what a shift leaves are the same."""
    rng = np.random.default_rng(0)
    a, b, y = rng.normal(size=(3, 30))
    one = np.ones(30)
    apart = uw.statistics(least_squares(np.c_[a, b, one], y))
    with_near = uw.statistics(least_squares(np.c_[a, a + 2.0**-30 * b, one], y))
    for name in set(MEASURES) - {"dfbetas"}:
        np.testing.assert_allclose(getattr(with_near, name), getattr(apart, name), rtol=1e-5, atol=1e-6, err_msg=name)
    # The second column's coefficient is that of b in other units; the squares of the normal equations know neither.
    np.testing.assert_allclose(with_near.dfbetas[:, 1:], apart.dfbetas[:, 1:], rtol=1e-5, atol=1e-6)


def test_linear_models_of_other_forms() -> None:
    """A module of the user's own, a bias held fixed, and double precision where the model has single."""

    class Own(nn.Module):
        def __init__(self, theta: Any):
            super().__init__()
            self.slope = nn.Parameter(torch.tensor(theta)[None])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.slope)

    given = data("stackloss")
    theta = solved(given.X, given.y)
    wanted = uw.statistics(least_squares(given.X, given.y))
    own = uw.statistics(uw.Objective(Own(theta), uw.losses.SquaredError(), (given.X, given.y)))
    assert own.names == ("slope[0]", "slope[1]", "slope[2]", "slope[3]")
    close(own.to_pandas(), wanted.to_pandas())

    layer = nn.Linear(4, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(theta)[None])
        layer.bias.fill_(-2.0)
    fixed = uw.Objective(layer, uw.losses.SquaredError(), (given.X, given.y - 2), parameters=["weight"])
    close(uw.statistics(fixed).to_pandas(), wanted.to_pandas())

    single = uw.Objective(
        Own(theta.astype(np.float32)),
        uw.losses.SquaredError(),
        (given.X.astype(np.float32), given.y.astype(np.float32)),
    )
    found = uw.statistics(single)
    assert found.hat.dtype == np.float64
    close(found.hat, wanted.hat)
    close(found.dfbetas, wanted.dfbetas, 1e-3)


def test_rows_of_weight_zero_are_no_data() -> None:
    given = data("stackloss")
    weights = given.weights.copy()
    weights[[2, 9]] = 0
    kept = weights > 0
    found = uw.statistics(least_squares(given.X, given.y, weights))
    wanted = uw.statistics(least_squares(given.X[kept], given.y[kept], weights[kept]))
    for name in MEASURES:
        close(getattr(found, name)[kept], getattr(wanted, name))
        assert (getattr(found, name)[~kept] == (name == "covariance_ratio")).all()
    assert found.residual_degrees == wanted.residual_degrees


def test_targets_of_plus_and_minus_one_are_classes_too() -> None:
    given = data("spector")
    fitted = uw.retraining.fit(objective(given.X, given.y, np.zeros(4), uw.losses.BinaryLogistic()), tolerance=1e-11)
    signs = fitted.replace(data=(given.X, 2 * given.y - 1))
    np.testing.assert_array_equal(uw.statistics(signs).to_pandas(), uw.statistics(fitted).to_pandas())


def test_a_multiple_of_sample_weights_leaves_a_penalised_poisson_s_hat_values() -> None:
    """PoissonRegressor divides by their sum, so that its fit is the same; the dispersion is of weights as given."""
    given = data("cpunish")
    X = given.X[:, :2] / given.X[:, :2].max(0)
    once, fivefold = (
        uw.statistics(PoissonRegressor(alpha=0.1, tol=1e-10).fit(X, given.y, w), X, given.y, sample_weight=w)
        for w in (given.weights, 5 * given.weights)
    )
    close(fivefold.hat, once.hat)
    close(fivefold.effective_parameters, once.effective_parameters)
    close(fivefold.studentised_internal, np.sqrt(5) * once.studentised_internal)


def test_a_linear_regression_without_intercept_has_none() -> None:
    given = data("stackloss")
    assert uw.statistics(LinearRegression(fit_intercept=False).fit(given.X, given.y), given.X, given.y).names == (
        "x0",
        "x1",
        "x2",
        "x3",
    )
