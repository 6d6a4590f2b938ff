import itertools

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV

from upweight.errors import InputError, NotStationaryWarning
from upweight.estimators import from_estimator, prepare


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(
    ("estimator", "outputs"),
    [
        *itertools.product([Ridge(alpha=2.5), RidgeCV([0.3, 3.0]), LinearRegression()], ["one", "column", "two"]),
        (Ridge(alpha=np.array([2.5, 2.5])), "two"),
    ],
)
def test_gradient_vanishes_at_the_coefficients(problem, estimator, intercept, outputs):
    y = {
        "one": problem.number,
        "column": problem.number[:, None],
        "two": np.column_stack([problem.number, problem.X[:, 1] ** 2]),
    }[outputs]
    estimator.set_params(fit_intercept=intercept).fit(problem.X, y, sample_weight=problem.weights)
    objective = from_estimator(estimator, problem.X, y, sample_weight=problem.weights)
    assert objective.gradient().norm() < 1e-12 * objective.params.norm() * 100
    with pytest.warns(NotStationaryWarning, match="sample_weight"):
        assert from_estimator(estimator, problem.X, y).gradient().norm() > 1e-3
    for X in (problem.X, problem.new):
        expected = estimator.predict(X).reshape(len(X), -1)
        queries = prepare(estimator, X, estimator.predict(X))
        np.testing.assert_allclose(objective.outputs(queries), expected, rtol=1e-10, atol=1e-12)


def test_ridge_risk_is_scikit_learns_divided_by_2n(problem):
    ridge = Ridge(alpha=2.5).fit(problem.X, problem.number)
    total = ((ridge.predict(problem.X) - problem.number) ** 2).sum() + 2.5 * (ridge.coef_**2).sum()
    objective = from_estimator(ridge, problem.X, problem.number)
    assert objective.risk() == pytest.approx(total / 120, rel=1e-12)
    assert objective.l2.tolist() == [2.5 / 60] * 4 + [0.0]


def test_alpha_per_target_is_refused(problem):
    y = np.column_stack([problem.number, problem.X[:, 1]])
    ridge = Ridge(alpha=np.array([1.0, 2.0])).fit(problem.X, y)
    with pytest.raises(InputError, match=r"alpha holds 2 different values.* one Ridge per target"):
        from_estimator(ridge, problem.X, y)


@pytest.mark.parametrize("estimator", [Ridge(positive=True), LinearRegression(positive=True)])
def test_constrained_fits_are_refused(problem, estimator):
    estimator.fit(problem.X, problem.number)
    with pytest.raises(InputError, match="constrained fit"):
        from_estimator(estimator, problem.X, problem.number)
