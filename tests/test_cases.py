"""Regressions that other libraries of statistics get wrong, each with its right value, and others of its kind.

What is right is the refit without the row: in closed form, by the estimator itself, or solved in scaled columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import upweight as uw
from foreign.plain import weights_of
from problems import DOUBLE, close
from upweight.quantities.undetermined import UndeterminedWarning

Rows = np.ndarray


def prediction(model: Any, batch: Any) -> Tensor:
    return model(batch[0]).reshape(len(batch[0]), -1)[:, 0]


# Losses of the refit, evaluated: the mean of what is left, and models as simple.


def without(fit: Callable[[Rows], Rows], y: Rows) -> Rows:
    """Changes of ½(f − y)² of every row (rows) when each is left out (columns), by refits."""
    before = fit(np.ones(len(y)))
    columns = []
    for left_out in range(len(y)):
        weights = np.ones(len(y))
        weights[left_out] = 0
        columns.append(0.5 * ((fit(weights) - y) ** 2 - (before - y) ** 2))
    return np.stack(columns, 1)


Y = np.array([4.0, 7.0, 1.0, 3.0, 6.5])
SLOPE = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
TWO = np.array([0, 0, 1, 1, 1])
SAMPLE = np.array([1.0, 2.0, 0.5, 1.5, 1.0])
SIMPLE: dict[str, tuple[Any, Rows, Callable[[Rows], Rows], Rows | None]] = {
    "mean": (LinearRegression(fit_intercept=False), np.ones((5, 1)), lambda w: np.full(5, w @ Y / w.sum()), None),
    "intercept": (LinearRegression(), np.zeros((5, 1)), lambda w: np.full(5, w @ Y / w.sum()), None),
    "line through the origin": (
        LinearRegression(fit_intercept=False),
        SLOPE[:, None],
        lambda w: SLOPE * ((w * SLOPE) @ Y / ((w * SLOPE) @ SLOPE)),
        None,
    ),
    "two means": (
        LinearRegression(fit_intercept=False),
        np.eye(2)[TWO],
        lambda w: np.array([(w * (k == TWO)) @ Y / (w @ (k == TWO)) for k in TWO]),
        None,
    ),
    "shrunken mean": (
        Ridge(alpha=2.0, fit_intercept=False),
        np.ones((5, 1)),
        lambda w: np.full(5, w @ Y / (w.sum() + 2)),
        None,
    ),
    "weighted mean": (
        LinearRegression(fit_intercept=False),
        np.ones((5, 1)),
        lambda w: np.full(5, (w * SAMPLE) @ Y / (w @ SAMPLE)),
        SAMPLE,
    ),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_losses_without_a_row_are_exact_in_the_simplest_regressions(name: str) -> None:
    estimator, X, fit, weights = SIMPLE[name]
    estimator.fit(X, Y, sample_weight=weights)
    influence = uw.Influence(uw.from_estimator(estimator, X, Y, sample_weight=weights))
    wanted = without(fit, Y)
    queries = uw.estimators.prepare(estimator, X, Y)
    close(influence.attribute(queries, leverage_corrected=True).scores, wanted)
    close(influence.self_influence(leverage_corrected=True).scores, wanted.diagonal())
    moved = np.stack([fit(1.0 * (np.arange(5) != k)) for k in range(5)], 1) - fit(np.ones(5))[:, None]
    close(influence.attribute(queries, leverage_corrected=True, measurement=prediction).scores, moved)


# Columns of any size.


def columns(case: str) -> tuple[Rows, Rows]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.normal(size=40)
    scaled: dict[str, Rows] = {
        "seconds of a year": np.c_[1.7e9 + 1e7 * X[:, 0], X[:, 1]],
        "seconds, one column": 1.7e9 + 1e7 * X[:, :1],
        "units": X * [1e6, 1, 1e-6],
        "years and their squares": np.c_[2000 + 10 * X[:, 0], (2000 + 10 * X[:, 0]) ** 2],
        "a column twice": np.c_[X, 2 * X[:, 0]],
        "a constant column": np.c_[X, np.ones(40)],
        "one column for each category": np.c_[X[:, :1], np.eye(3)[np.arange(40) % 3]],
        "cents of a balance": np.c_[1e12 + 1e9 * X[:, 0], X[:, 1:]],
    }
    return scaled[case], y


LARGE = [
    *("seconds of a year", "seconds, one column", "units", "years and their squares", "a column twice"),
    *("a constant column", "one column for each category", "cents of a balance"),
]


@pytest.mark.filterwarnings("ignore:.*kept \\d+ of \\d+ directions")
@pytest.mark.parametrize("case", LARGE)
def test_least_squares_of_columns_of_any_size_are_those_of_refits(case: str) -> None:
    X, y = columns(case)
    estimator = LinearRegression().fit(X, y)
    influence = uw.Influence(uw.from_estimator(estimator, X, y))
    queries = uw.estimators.prepare(estimator, X[:3], y[:3])
    found = influence.attribute(queries, leverage_corrected=True, measurement=prediction, train=range(6)).scores
    for row in range(6):
        rest = np.arange(40) != row
        refit = LinearRegression().fit(X[rest], y[rest]).predict(X[:3]) - estimator.predict(X[:3])
        np.testing.assert_allclose(found[:, row], refit, rtol=2e-3, atol=1e-6)


def stepped(D: Rows, slopes: Rows, curvatures: Rows, penalty: Rows, row: int) -> float:
    """Change of the first row's linear predictor by one Newton step without a row, in scaled columns."""
    kept = np.arange(len(D)) != row
    H = (D[kept].T * curvatures[kept]) @ D[kept] + np.diag(penalty)
    return float(D[0] @ np.linalg.solve(H, slopes[row] * D[row]))


@pytest.mark.filterwarnings("ignore:estimator. the coefficients of PoissonRegressor")
@pytest.mark.filterwarnings("ignore:θ is not at an optimum")
@pytest.mark.parametrize("n", [8, 60])
@pytest.mark.parametrize("units", [(1e8, 1, 1e-8), (1e-6, 1e6, 1), (1e4, 1e4, 1e4)], ids=str)
@pytest.mark.parametrize("kind", ["logistic", "poisson", "ridge"])
def test_units_of_columns_change_nothing_of_penalised_regressions(kind: str, units: tuple[float, ...], n: int) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 3))
    eta = X @ [1, 1, -1] + rng.normal(size=n)
    Z, D = X * units, np.c_[X, np.ones(n)]
    penalty = np.r_[1 / np.square(units), 0]
    if kind == "logistic":
        y: Rows = (eta > 0).astype(int)
        estimator = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(Z, y)
        p = 1 / (1 + np.exp(-(Z @ estimator.coef_[0] + estimator.intercept_[0])))
        slopes, curvatures = p - y, p * (1 - p)
    elif kind == "poisson":
        y = rng.poisson(np.exp(0.3 * eta)).astype(float)
        estimator = PoissonRegressor(alpha=1 / n, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(Z, y)
        p = estimator.predict(Z)
        slopes, curvatures = p - y, p
    else:
        y = eta
        estimator = Ridge(alpha=1.0, solver="svd").fit(Z, y)
        slopes, curvatures = estimator.predict(Z) - y, np.ones(n)
    influence = uw.Influence(uw.from_estimator(estimator, Z, y))
    queries = uw.estimators.prepare(estimator, Z[:1], y[:1])
    found = influence.attribute(queries, measurement=prediction, leverage_corrected=True, train=[0, 1, 2]).scores[0]
    wanted = [stepped(D, slopes, curvatures, penalty, row) for row in range(3)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-9)


# Rows that alone determine a coefficient.

rng = np.random.default_rng(0)
SEEN = rng.normal(size=(9, 1))
ALONE: dict[str, tuple[Rows, list[int]]] = {
    "a category of one": (np.c_[SEEN, np.arange(9) == 3], [3]),
    "two categories of one": (np.c_[SEEN, np.arange(9) == 3, np.arange(9) == 5], [3, 5]),
    "all columns of the categories": (np.c_[SEEN, np.arange(9) == 3, np.arange(9) != 3], [3]),
    "a number that only it has": (np.c_[SEEN, 250.0 * (np.arange(9) == 7)], [7]),
    "a slope after a break": (np.c_[SEEN, np.maximum(np.arange(9) - 7.0, 0)], [8]),
}


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("name", ALONE)
def test_rows_of_leverage_one_have_the_refit_of_least_norm(name: str, intercept: bool) -> None:
    X, lonely = ALONE[name]
    X = X.astype(float)
    y = 2 * SEEN[:, 0] + np.random.default_rng(1).normal(size=9)
    estimator = LinearRegression(fit_intercept=intercept).fit(X, y)
    influence = uw.Influence(uw.from_estimator(estimator, X, y))
    queries = uw.estimators.prepare(estimator, X, y)
    wanted = []
    for row in range(9):
        kept = np.arange(9) != row
        refit = LinearRegression(fit_intercept=intercept).fit(X[kept], y[kept])
        wanted.append(refit.predict(X) - estimator.predict(X))
    expected = np.stack(wanted, 1)
    others = [row for row in range(9) if row not in lonely]
    plain = influence.attribute(queries, leverage_corrected=True, measurement=prediction, train=others).scores
    np.testing.assert_allclose(plain, expected[:, others], rtol=1e-6, atol=1e-8)
    with pytest.warns(UndeterminedWarning, match=str(lonely[0])):
        found = influence.attribute(queries, leverage_corrected=True, measurement=prediction).scores
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    with pytest.warns(UndeterminedWarning, match=str(lonely[0])):
        group = influence.group(lonely[:1], queries, order="newton", measurement=prediction).scores[:, 0]
    np.testing.assert_allclose(group, expected[:, lonely[0]], rtol=1e-6, atol=1e-8)


# Many classes.


class Largest(TorchDispatchMode):
    """The size of the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return made


def removals(a: Tensor, P: Tensor, R: Tensor, w: Tensor, l2: float, queries: int) -> Tensor:
    """By conjugate gradients on V ↦ Σ w (diag(p) − ppᵀ)V a aᵀ/n + λV, which knows no matrix of classes by classes."""
    n = len(a)

    def apply(V: Tensor) -> Tensor:
        u = a @ V.T
        return (w[:, None] * (P * u - P * (P * u).sum(1, keepdim=True))).T @ a / n + l2 * V

    found = []
    for q in range(queries):
        b = torch.outer(R[q], a[q])
        x, r, p = torch.zeros_like(b), b.clone(), b.clone()
        while r.norm() > 1e-12 * b.norm():
            image = apply(p)
            step = (r * r).sum() / (p * image).sum()
            x, new = x + step * p, r - step * image
            r, p = new, new + (new * new).sum() / (r * r).sum() * p
        found.append(w * ((R @ x) * a).sum(1) / n)
    return torch.stack(found)


HEADS: dict[str, tuple[bool, bool, bool]] = {  # bias, on a body, weighted
    "layer": (True, False, False),
    "no bias": (False, False, False),
    "on a body": (True, True, False),
    "weighted": (True, False, True),
}


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
@pytest.mark.parametrize("name", HEADS)
def test_a_layer_of_many_classes_needs_no_matrix_of_classes(name: str) -> None:
    bias, on_body, weighted = HEADS[name]
    n, d, classes, l2 = 30, 5, 400, 0.01
    torch.manual_seed(0)
    x, y = torch.randn(n, d, dtype=DOUBLE), torch.randint(0, classes, (n,))
    layer = nn.Linear(d, classes, bias=bias, dtype=DOUBLE)
    body = nn.Sequential(nn.Linear(d, d, dtype=DOUBLE), nn.Tanh()).requires_grad_(False)
    model = nn.Sequential(body, layer) if on_body else layer
    w = weights_of(n) if weighted else torch.ones(n, dtype=DOUBLE)
    a = (body(x) if on_body else x).detach()
    a = torch.cat([a, torch.ones(n, 1, dtype=DOUBLE)], 1) if bias else a
    P = model(x).softmax(1).detach()
    R = P - nn.functional.one_hot(y, classes)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=l2, weights=w if weighted else None)
    inverse = uw.inverse.CG(uw.curvature.Hessian(), tolerance=1e-12)
    with Largest() as largest:
        found = uw.Influence(objective, inverse).attribute((x[:2], y[:2])).scores
    close(found, removals(a, P, R, w, l2, 2), rtol=1e-7, atol=1e-10)
    assert largest.numbers < n * classes * 16
