"""GLMs: half deviances of exp(output), weights over their sum."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from sklearn.metrics import mean_tweedie_deviance

import upweight as uw
from upweight.errors import InputError
from upweight.estimators import from_estimator, prepare
from upweight.estimators.losses import HalfDeviance

FITS = {
    "poisson": (PoissonRegressor, {}, 1.0),
    "gamma": (GammaRegressor, {}, 2.0),
    "tweedie 1.5": (TweedieRegressor, {"power": 1.5}, 1.5),
    "tweedie 3": (TweedieRegressor, {"power": 3}, 3.0),
    "tweedie 0, log": (TweedieRegressor, {"power": 0, "link": "log"}, 0.0),
    "tweedie 0": (TweedieRegressor, {"power": 0}, 0.0),
}


def fitted(problem, name, weights, alpha=0.3, **more):
    kind, options, _ = FITS[name]
    y = positive(problem)
    # Newton's method gives a model that isn't convex in its log means over to L-BFGS, with a warning.
    solver = "lbfgs" if name == "tweedie 0, log" else "newton-cholesky"
    return kind(alpha=alpha, tol=1e-10, max_iter=10_000, solver=solver, **options, **more).fit(
        problem.X, y, sample_weight=weights
    )


def positive(problem):
    return np.round(np.exp(0.4 * problem.number) * 3) + 1


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("name", FITS)
def test_gradient_vanishes_and_the_risk_is_scikit_learns(problem, name, intercept):
    estimator = fitted(problem, name, problem.weights, fit_intercept=intercept)
    y, power = positive(problem), FITS[name][2]
    objective = from_estimator(estimator, problem.X, y, sample_weight=problem.weights)
    assert objective.gradient().abs().max() < 1e-6
    deviance = mean_tweedie_deviance(y, estimator.predict(problem.X), sample_weight=problem.weights, power=power)
    assert objective.risk() == pytest.approx(deviance / 2 + 0.15 * (estimator.coef_**2).sum(), rel=1e-9)
    said = objective.outputs(prepare(estimator, problem.new, np.ones(7))).squeeze(1)
    expected = estimator.predict(problem.new)
    np.testing.assert_allclose(said if name == "tweedie 0" else said.exp(), expected, rtol=1e-9)


@pytest.mark.parametrize("name", FITS)
def test_removal_is_the_derivative_of_refits(problem, name):
    estimator = fitted(problem, name, problem.weights)
    y, total = positive(problem), problem.weights.sum()
    objective = from_estimator(estimator, problem.X, y, sample_weight=problem.weights)
    queries = prepare(estimator, problem.X[:3], y[:3])
    scores = uw.Influence(objective).attribute(queries).scores
    for i in (0, 31):
        changed = problem.weights.copy()
        changed[i] *= 1 - 1e-3
        # The same α beside the sum of the weights that were.
        other = fitted(problem, name, changed, alpha=0.3 * total / changed.sum())
        moved = from_estimator(other, problem.X, y, sample_weight=changed).losses(queries) - objective.losses(queries)
        np.testing.assert_allclose(moved / 1e-3, scores[:, i], rtol=5e-3, atol=1e-7)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_powers_called_convex_are(power):
    loss, logs = HalfDeviance(power), torch.linspace(-3, 3, 101, dtype=torch.float64, requires_grad=True)
    for target in (0.5, 4.0):
        values = loss.compare(logs, torch.full_like(logs, target))
        (slope,) = torch.autograd.grad(values.sum(), logs, create_graph=True)
        assert torch.autograd.grad(slope.sum(), logs)[0].min() > 0
    assert loss.is_convex
    assert not HalfDeviance(3.0).is_convex


def test_other_targets_and_links_are_refused(problem):
    estimator = fitted(problem, "gamma", None)
    with pytest.raises(InputError, match=r"targets of power 2 must be > 0; the least is -1"):
        from_estimator(estimator, problem.X, np.where(np.arange(60) == 0, -1.0, positive(problem)))
    strange = TweedieRegressor(power=1.5, link="identity")
    strange.coef_, strange.intercept_ = np.zeros(4), 1.0
    with pytest.raises(InputError, match="fit with link='log'"):
        from_estimator(strange, problem.X, positive(problem))
