"""Leaving one example out where outputs are linear in θ: against closed-form refits, whatever is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch import nn

import upweight as uw
from least_squares import Least, random
from problems import DOUBLE, close, mlp
from upweight import retraining
from upweight.errors import InputError
from upweight.quantities import leverage, moved

PROBLEMS = pytest.mark.parametrize(
    ("outputs", "bias", "l2", "weighted"),
    [(1, True, 0.0, False), (1, False, 0.1, True), (3, True, 0.0, True), (3, True, 0.2, False), (2, False, 0.0, False)],
)


@PROBLEMS
def test_every_measurement_of_squared_error_is_that_of_the_refit(outputs, bias, l2, weighted):
    problem = Least(outputs, bias, l2, weighted)
    influence, queries = problem.influence(), (problem.query_x, problem.query_y)
    refits = [problem.without(i) for i in range(problem.n)]
    before = problem.losses(problem.coefficients, *queries)
    expected = torch.stack([problem.losses(refit, *queries) - before for refit in refits], 1)
    close(influence.attribute(queries, leverage_corrected=True).scores, expected)
    some = [7, 4, 0]
    close(influence.attribute(queries, leverage_corrected=True, train=some).scores, expected[:, some])

    own = problem.losses(problem.coefficients, problem.x, problem.y)
    own = torch.stack([problem.losses(refit, problem.x, problem.y)[i] - own[i] for i, refit in enumerate(refits)])
    close(influence.self_influence(leverage_corrected=True).scores, own)
    close(influence.self_influence(leverage_corrected=True, train=some).scores, own[some])

    def largest_error(model, batch):  # no measurement of the package, and not smooth
        return (model(batch[0]) - batch[1]).abs().amax(1)

    def errors(coefficients):
        return (problem.extended(problem.query_x) @ coefficients - problem.query_y).abs().amax(1)

    expected = torch.stack([errors(refit) - errors(problem.coefficients) for refit in refits], 1)
    close(influence.attribute(queries, leverage_corrected=True, measurement=largest_error).scores, expected)


def test_a_model_of_no_known_form_is_found_linear():
    problem = Least(3, True, 0.1, True)
    queries = problem.query_x, problem.query_y
    own, known = problem.influence("own"), problem.influence()
    assert not own.objective.is_linear
    assert moved.linear_outputs(own.objective)
    for options in ({}, {"measurement": lambda model, batch: model(batch[0])[:, 1] ** 3}):
        found, expected = (each.attribute(queries, leverage_corrected=True, **options) for each in (own, known))
        close(found.scores, expected.scores)
        assert found.quantity == expected.quantity
    close(*(each.self_influence(leverage_corrected=True).scores for each in (own, known)))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)),
        nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
    ],
    ids=["network", "linear in inputs alone", "tanh", "half lines"],
)
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32])
def test_bends_are_seen(model, dtype):
    data = random(1, 12, 3).to(dtype), random(2, 12, 2).to(dtype)
    objective = uw.Objective(model.to(dtype), uw.losses.SquaredError(), data, l2=0.1)
    assert not moved.linear_outputs(objective)


def test_float32_loses_nothing_to_differences_of_losses():
    problem = Least(2, True, 0.1, False, n=400)
    queries = problem.query_x, problem.query_y
    exact, single = problem.influence(), problem.influence(dtype=torch.float32)
    wanted = exact.attribute(queries, leverage_corrected=True).scores
    found = single.attribute(queries, leverage_corrected=True).scores
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 1e-5 * wanted.norm()

    def error(model, batch):
        return (model(batch[0]) - batch[1]).square().mean(1)

    wanted, found = (
        each.attribute(queries, leverage_corrected=True, measurement=error).scores for each in (exact, single)
    )
    assert (found - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_blocks_change_nothing(batch_size, monkeypatch):
    problem = Least(3, True, 0.1, True)
    queries = problem.query_x, problem.query_y
    wanted = problem.influence().attribute(queries, leverage_corrected=True).scores
    monkeypatch.setattr("upweight.gradients.workspace.SMALL", 20)
    influence = problem.influence(batch_size=batch_size)
    close(influence.attribute(queries, leverage_corrected=True).scores, wanted)
    count = []

    def loss(model, batch):  # one that can't be vectorised over models
        count.append(float(model(batch[0]).detach().sum()))
        return 0.5 * (model(batch[0]) - batch[1]).square().sum(1)

    close(influence.attribute(queries, leverage_corrected=True, measurement=loss).scores, wanted)
    assert len(count) > problem.n


def test_the_words_say_for_what_it_is_exact():
    problem = Least(1, True, 0.1, False)
    queries = problem.query_x, problem.query_y
    corrected = problem.influence().attribute(queries, leverage_corrected=True)
    assert "evaluated one Newton step away, which is the refit for squared error" in corrected.quantity.words
    assert "evaluated" in problem.influence().self_influence(leverage_corrected=True).quantity.words
    assert "evaluated" in problem.influence().group([1, 2], queries, order="newton").quantity.words
    assert "dense cholesky" in str(corrected.report)
    network = uw.Influence(mlp().objective(), uw.inverse.Dense())
    for found in (
        network.attribute(mlp().queries, leverage_corrected=True),
        network.self_influence(leverage_corrected=True),
    ):
        assert "linearised in the Newton step" in found.quantity.words


def test_bad_measurements_are_refused(unchecked):
    problem = Least(3, True, 0.1, False)
    influence, queries = problem.influence(), (problem.query_x, problem.query_y)
    with pytest.raises(InputError, match=r"measurement: returned shape \(\d+, 3\) for \d+ queries"):
        influence.attribute(queries, leverage_corrected=True, measurement=lambda model, batch: model(batch[0]))
    with pytest.raises(InputError, match="measurement: the value of query 2 is NaN or infinite"):
        influence.attribute(
            queries,
            leverage_corrected=True,
            measurement=lambda model, batch: model(batch[0])[:, 0] / (torch.arange(len(batch[0])) - 2).abs(),
        )


def test_verify_finds_squared_error_exact():
    problem = Least(2, True, 0.1, True)
    influence, queries = problem.influence(), (problem.query_x, problem.query_y)
    for measurement in (None, lambda model, batch: model(batch[0])[:, 1]):
        found = influence.verify(queries, 6, leverage_corrected=True, measurement=measurement)
        close(found.predicted, found.actual, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("estimator", [LinearRegression(), LinearRegression(fit_intercept=False), Ridge(2.0)])
@pytest.mark.parametrize("several", [False, True])
def test_refits_by_scikit_learn(estimator, several):
    problem = Least(2, True, 0.0, True)
    x, y, weights = problem.x.numpy(), problem.y.numpy()[:, : None if several else 1], problem.weights.numpy()
    y = y if several else y[:, 0]
    estimator.fit(x, y, weights)
    influence = uw.Influence(uw.from_estimator(estimator, x, y, sample_weight=weights))
    scores = influence.attribute(uw.estimators.prepare(estimator, x, y), leverage_corrected=True).scores
    own = influence.self_influence(leverage_corrected=True).scores

    def losses(fitted):
        return 0.5 * ((fitted.predict(x) - y) ** 2).reshape(len(x), -1).sum(1)

    before = losses(estimator)
    changes = []
    for i in range(len(x)):
        kept = weights * (np.arange(len(x)) != i)
        changes.append(losses(type(estimator)(**estimator.get_params()).fit(x, y, kept)) - before)
    expected = np.stack(changes, 1)
    np.testing.assert_allclose(scores, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(own, expected.diagonal(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("load", "n"), [(load_breast_cancer, 150), (load_wine, 120), (load_iris, 100)])
@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_logistic_regressions_are_nearer_to_refits_than_linearised(load, n, strength):
    x, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = StandardScaler().fit_transform(x[order][:, :5]), y[order]
    fitted = LogisticRegression(C=strength, tol=1e-10, max_iter=1000).fit(x[:n], y[:n])
    objective = retraining.fit(uw.from_estimator(fitted, x[:n], y[:n]))
    queries = objective.queries(uw.estimators.prepare(fitted, x[n : n + 25], y[n : n + 25]))
    influence = uw.Influence(objective, uw.inverse.Dense())
    models = retraining.leave_out(objective, list(range(n))).params
    before, own_before = objective.losses(queries), objective.losses()
    actual = torch.stack([objective.losses(queries, theta) - before for theta in models], 1)
    own = torch.stack([(objective.losses(params=theta) - own_before)[i] for i, theta in enumerate(models)])
    gradients = influence.query_gradients(queries)
    linear = leverage.removal(objective, influence.solve, None, lambda steps: gradients @ steps.T)
    own_linear = torch.cat(
        [(block.slopes * block.moved).sum(1) for block in leverage.left_out(objective, influence.solve, None)]
    )
    now = influence.attribute(queries, leverage_corrected=True).scores
    own_now = influence.self_influence(leverage_corrected=True).scores
    for found, worse, wanted in ((now, linear, actual), (own_now, own_linear, own)):
        assert (found - wanted).norm() < (worse - wanted).norm()
        slope, slope_before = (float((each * wanted).sum() / (each * each).sum()) for each in (found, worse))
        assert abs(slope - 1) < abs(slope_before - 1) + 0.03
        assert abs(slope - 1) < 0.25
