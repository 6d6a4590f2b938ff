"""What is singular, what is a matter of units, and what is rounding: told apart by the matrix with a unit diagonal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

import upweight as uw
from problems import DOUBLE, close
from upweight.curvature import Hessian, Matrix
from upweight.errors import NegativeCurvatureError, UpweightWarning
from upweight.inverse import CG, Dense

UNITS = torch.tensor([1e8, 1.0, 1e-8, 1e3, 1e-5], dtype=DOUBLE)


def spd() -> torch.Tensor:
    rows = torch.randn(9, 5, dtype=DOUBLE)
    return rows.T @ rows


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_units_of_parameters_change_nothing(dtype: torch.dtype) -> None:
    matrix, vectors, units = spd(), torch.randn(3, 5, dtype=DOUBLE), UNITS.sqrt()
    plain = Dense().fit(Matrix(matrix.to(dtype))).solve(vectors.to(dtype)).x
    other = Dense().fit(Matrix((matrix * units[:, None] * units).to(dtype))).solve((vectors * units).to(dtype)).x
    close(other.double() * units, plain.double(), rtol=1e-8 if dtype == DOUBLE else 1e-3, atol=1e-10)


def test_a_parameter_that_nothing_depends_on_is_left_out_alone() -> None:
    matrix, vectors = spd(), torch.randn(3, 5, dtype=DOUBLE)
    matrix[2], matrix[:, 2] = 0.0, 0.0
    with pytest.raises(NegativeCurvatureError, match=r"singular to rounding, at damping 0, along 1 of 5 directions"):
        Dense().fit(Matrix(matrix))
    vectors[:, 2] = 0.0
    with pytest.warns(UpweightWarning, match="singular to rounding along 1 of 5 directions"):
        solver = Dense(singular="pseudo").fit(Matrix(matrix))
    close(solver.solve(vectors).x, vectors @ torch.linalg.pinv(matrix, hermitian=True), rtol=1e-9, atol=1e-12)
    vectors[0, 2] = 1.0
    with pytest.warns(UpweightWarning, match=r"up to 0\.\d+ of a vector lies along the 1 directions"):
        solver.solve(vectors)


@pytest.mark.parametrize("method", ["cholesky", "eigen"])
def test_the_pseudo_inverse_is_that_of_the_range(method: str) -> None:
    rows = torch.randn(3, 8, dtype=DOUBLE)
    matrix = rows.T @ rows
    with pytest.warns(UpweightWarning, match="5 of 8 directions"):
        solver = Dense(method=method, singular="pseudo").fit(Matrix(matrix))  # type: ignore[arg-type]
    seen = torch.randn(4, 3, dtype=DOUBLE) @ rows
    # By another inverse of the range it differs where no row looks.
    close(solver.solve(seen).x @ rows.T, seen @ torch.linalg.pinv(matrix, hermitian=True) @ rows.T, rtol=1e-8)
    assert solver.solve(seen).report.converged


def test_negative_curvature_is_no_rounding() -> None:
    matrix = torch.diag(torch.tensor([1.0, 1.0, 1.0], dtype=DOUBLE))
    matrix[0, 1] = matrix[1, 0] = 1 + 1e-6
    with pytest.raises(NegativeCurvatureError, match=r"smallest eigenvalue is -1\.000e-06"):
        Dense(singular="pseudo").fit(Matrix(matrix))


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def head(request: pytest.FixtureRequest) -> uw.Objective:
    """A softmax on digits without l2, as Adam leaves it."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:600] / 16, dtype=request.param), torch.tensor(labels[:600])
    model = nn.Linear(64, 10, dtype=request.param)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return uw.Objective(model, uw.losses.CrossEntropy(), (x, y))


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
def test_a_softmax_without_l2_is_explained_by_what_its_examples_see(head: uw.Objective) -> None:
    wide = head.to(DOUBLE)
    queries = wide.data.take(range(4))
    with pytest.warns(UpweightWarning, match="singular to rounding along"):
        scores = uw.Influence(head).attribute(queries).scores
    gradients = torch.cat([block for _, block in wide.example_gradients()])
    inverse = torch.linalg.pinv(Hessian().of(wide).dense(), hermitian=True, rtol=1e-14)
    exact = gradients[:4] @ inverse @ gradients.T / wide.n
    close(scores.double(), exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
def test_a_wide_softmax_without_l2_is_damped_with_a_warning(
    head: uw.Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upweight.planning.choice.DENSE_UP_TO", 100)
    influence = uw.Influence(head)
    with pytest.warns(UpweightWarning, match=r"damped by 0\.001 of its mean eigenvalue; p=650"):
        assert "CG" in repr(influence.inverse)
    assert isinstance(influence.inverse, CG)
    assert influence.attribute(head.data.take([0, 1])).scores.isfinite().all()
    penalised = uw.Influence(head.replace(l2=0.01))  # no warning
    assert isinstance(penalised.inverse, CG)
    assert penalised.inverse.damping == 0.0


def test_an_unpenalised_logistic_regression_of_scikit_learn_is_explained() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3)) * [100, 1, 0.01]
    y = np.digitize(X @ [0.01, 1, 100] + rng.normal(size=80) * 2, [-0.7, 0.7])
    estimator = LogisticRegression(C=np.inf, solver="newton-cg", tol=1e-10, max_iter=10_000).fit(X, y)
    influence = uw.Influence(uw.from_estimator(estimator, X, y))
    queries = uw.estimators.prepare(estimator, X[:2], y[:2])
    assert influence.verify(queries, 10).slope == pytest.approx(1, abs=0.2)


def predictions(estimator: object, X: np.ndarray) -> np.ndarray:
    return estimator.predict(X)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("case", "warns"),
    [("seconds", True), ("units", True), ("twice", False), ("constant", False), ("more columns than rows", False)],
)
def test_least_squares_are_those_of_the_directions_that_the_fit_kept(case: str, warns: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 3))
    y = X @ [1, 2, 3] + rng.normal(size=12)
    X = {
        "seconds": np.c_[1.7e9 + 1e7 * X[:, 0], X[:, 1:]],
        "units": X * [1e6, 1, 1e-6],
        "twice": np.c_[X, 2 * X[:, 0]],
        "constant": np.c_[X, np.ones(12)],
        "more columns than rows": np.c_[X, rng.normal(size=(12, 20))],
    }[case]
    estimator = LinearRegression().fit(X, y)
    if warns:
        with pytest.warns(UpweightWarning, match=r"kept 1 of 3 directions of X .*Scale the columns"):
            objective = uw.from_estimator(estimator, X, y)
    else:
        objective = uw.from_estimator(estimator, X, y)
    assert float(objective.gradient().abs().max()) < 1e-6 * float(objective.params.abs().max())
    np.testing.assert_allclose(objective.outputs(objective.data)[:, 0], predictions(estimator, X), rtol=1e-9, atol=1e-9)
    if case == "more columns than rows":
        return  # leverage 1 everywhere
    queries = uw.estimators.prepare(estimator, X[:2], y[:2])
    measured = uw.Influence(objective).attribute(
        queries, measurement=lambda model, batch: model(batch[0]).reshape(-1), leverage_corrected=True
    )
    for row in range(2, 5):
        rest = np.arange(12) != row
        refit = predictions(LinearRegression().fit(X[rest], y[rest]), X[:2]) - predictions(estimator, X[:2])
        np.testing.assert_allclose(measured.scores[:, row], refit, rtol=2e-3, atol=1e-7)
