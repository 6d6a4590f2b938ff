"""Leverage 1: an example that alone determines a direction has the refit of least norm, or is NaN and named."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from torch import nn

import upweight as uw
from least_squares import random
from problems import DOUBLE, close
from upweight import retraining
from upweight.errors import UpweightWarning
from upweight.quantities import moved
from upweight.quantities.undetermined import UndeterminedWarning


def singleton(outputs: int = 1, seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Row 3 alone is of a category."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(12, 2))
    y = x @ generator.normal(size=(2, outputs)) + generator.normal(size=(12, outputs))
    return np.c_[x * scale, np.arange(12) == 3].astype(float), y if outputs > 1 else y[:, 0]


def changes_of_refits(x: np.ndarray, y: np.ndarray, estimator=None) -> tuple[np.ndarray, np.ndarray]:
    """Of the loss and the first output of every row when each is left out of least squares."""
    estimator = LinearRegression() if estimator is None else estimator

    def said(fitted):
        outputs = fitted.predict(x).reshape(len(x), -1)
        return 0.5 * ((outputs - y.reshape(outputs.shape)) ** 2).sum(1), outputs[:, 0]

    before = said(estimator.fit(x, y))
    changes = [
        [now - then for now, then in zip(said(estimator.fit(x[kept], y[kept])), before, strict=True)]
        for kept in (np.arange(len(x)) != i for i in range(len(x)))
    ]
    estimator.fit(x, y)
    return tuple(np.stack(column, 1) for column in zip(*changes, strict=True))


def first_output(model, batch):
    return model(batch[0]).reshape(len(batch[0]), -1)[:, 0]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e-3])
def test_a_row_of_leverage_one_has_the_refit_of_least_norm_and_spoils_no_other(outputs, scale):
    x, y = singleton(outputs, scale=scale)
    losses, predictions = changes_of_refits(x, y)
    fitted = LinearRegression().fit(x, y)
    influence, queries = uw.Influence(uw.from_estimator(fitted, x, y)), uw.estimators.prepare(fitted, x, y)
    close_to = {"rtol": 1e-6, "atol": 1e-8}
    for measurement, expected in ((None, losses), (first_output, predictions)):
        with pytest.warns(UndeterminedWarning, match="leverage 1: training example 3 alone determines"):
            found = influence.attribute(queries, leverage_corrected=True, measurement=measurement).scores
        np.testing.assert_allclose(found, expected, **close_to)
    with pytest.warns(UndeterminedWarning, match="training example 3 alone"):
        own = influence.self_influence(leverage_corrected=True).scores
    np.testing.assert_allclose(own, losses.diagonal(), **close_to)
    with pytest.warns(UndeterminedWarning, match=r"the group of training examples 3, 5 alone determines"):
        group = influence.group([[3, 5], [1, 2]], queries, order="newton", measurement=first_output).scores
    kept = ~np.isin(np.arange(12), [3, 5])
    refit = LinearRegression().fit(x[kept], y[kept]).predict(x).reshape(12, -1)[:, 0]
    wanted = refit - fitted.predict(x).reshape(12, -1)[:, 0]
    np.testing.assert_allclose(group[:, 0], wanted, **close_to)
    alone = influence.group([1, 2], queries, order="newton", measurement=first_output).scores
    close(group[:, 1], alone[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UpweightWarning)
        influence.attribute(queries, leverage_corrected=True, train=[0, 1, 2, 4])


def test_the_column_of_a_row_alone_may_have_another_level_than_zero():
    """The flat direction then mixes a coefficient with the intercept, of which only the first has a norm."""
    x, y = singleton()
    x[:, 2] = 5 + 2 * x[:, 2]
    losses, _ = changes_of_refits(x, y)
    fitted = LinearRegression().fit(x, y)
    influence = uw.Influence(uw.from_estimator(fitted, x, y, ids=[f"p{i}" for i in range(12)]))
    queries = uw.estimators.prepare(fitted, x, y)
    with pytest.warns(UndeterminedWarning, match="p3 alone"):
        found = influence.attribute(queries, leverage_corrected=True).scores
    np.testing.assert_allclose(found, losses, rtol=1e-6, atol=1e-8)
    with pytest.warns(UndeterminedWarning, match="p3 alone"):
        group = influence.group([3], queries, order="newton").scores
    np.testing.assert_allclose(group[:, 0], losses[:, 3], rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_as_many_rows_as_parameters_all_have_leverage_one():
    x, y = random(1, 4, 3).numpy(), random(2, 4).numpy()
    losses, _ = changes_of_refits(x, y)
    fitted = LinearRegression().fit(x, y)
    influence, queries = uw.Influence(uw.from_estimator(fitted, x, y)), uw.estimators.prepare(fitted, x, y)
    with pytest.warns(UndeterminedWarning, match="training examples 0, 1, 2, 3 each determine"):
        found = influence.attribute(queries, leverage_corrected=True).scores
    np.testing.assert_allclose(found, losses, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("far", [1e2, 1e4, 1e6])
def test_a_leverage_near_one_is_no_leverage_of_one(far):
    """1 − h down to 1e-11: the refit is unique, and is found."""
    x, y = singleton()
    x[:, 2] = random(9, 12).numpy()
    x[3, 2] = far
    losses, _ = changes_of_refits(x, y)
    fitted = LinearRegression().fit(x, y)
    influence, queries = uw.Influence(uw.from_estimator(fitted, x, y)), uw.estimators.prepare(fitted, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UndeterminedWarning)
        found = influence.attribute(queries, leverage_corrected=True).scores
        group = influence.group([3], queries, order="newton").scores
    np.testing.assert_allclose(found, losses, rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(group[:, 0], losses[:, 3], rtol=1e-3, atol=1e-8)


def test_in_float32_too():
    x, y = singleton()
    fitted = LinearRegression().fit(x, y)
    exact, _ = changes_of_refits(x, y)
    objective = uw.from_estimator(fitted, x, y).to(torch.float32)
    queries = uw.estimators.prepare(fitted, x, y)
    influence = uw.Influence(objective, uw.inverse.Dense())
    with pytest.warns(UndeterminedWarning, match="example 3 alone"):
        found = influence.attribute(queries, leverage_corrected=True).scores
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4)
    with pytest.warns(UndeterminedWarning, match="examples 3 alone"):
        group = influence.group([3], queries, order="newton").scores
    np.testing.assert_allclose(group[:, 0], exact[:, 3], rtol=1e-3, atol=1e-4)


def test_a_penalty_or_damping_decides():
    x, y = singleton()
    fitted = LinearRegression().fit(x, y)
    queries = uw.estimators.prepare(fitted, x, y)
    ridge = Ridge(1e-6).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UndeterminedWarning)
        found = uw.Influence(uw.from_estimator(ridge, x, y)).attribute(queries, leverage_corrected=True).scores
        damped = uw.Influence(uw.from_estimator(fitted, x, y), uw.inverse.Dense(damping=1e-6))
        damped.attribute(queries, leverage_corrected=True)
        damped.group([3], queries, order="newton")
    losses, _ = changes_of_refits(x, y, Ridge(1e-6))
    np.testing.assert_allclose(found, losses, rtol=1e-4, atol=1e-6)


def test_of_a_network_the_row_is_nan_and_named():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope, self.own = (nn.Parameter(torch.tensor(value, dtype=DOUBLE)) for value in (0.3, 0.0))

        def forward(self, x):
            return (self.slope * x[:, :1]).tanh() + self.own * x[:, 1:]

    x = torch.stack([random(1, 10), (torch.arange(10) == 2).to(DOUBLE)], 1)
    y = (0.5 * x[:, :1]).tanh() + 0.1 * random(2, 10, 1)
    objective = retraining.fit(uw.Objective(Shifted(), uw.losses.SquaredError(), (x, y)))
    assert not moved.linear_outputs(objective)
    influence = uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN()))
    for score in (
        lambda: influence.attribute((x, y), leverage_corrected=True).scores[0],
        lambda: influence.self_influence(leverage_corrected=True).scores,
        lambda: influence.group([[i] for i in range(10)], (x, y), order="newton").scores[0],
    ):
        with pytest.warns(UndeterminedWarning, match="2 alone determines.*the score is NaN"):
            found = score()
        assert found.isnan().tolist() == [i == 2 for i in range(10)]


@pytest.mark.filterwarnings("ignore:loss. the gradients of all 1 training examples are 0")
def test_one_training_example_alone():
    x, y = random(1, 1, 1), torch.tensor([2.0], dtype=DOUBLE)
    model = nn.Linear(1, 1, bias=False, dtype=DOUBLE)
    with torch.no_grad():
        model.weight.copy_((y / x).reshape(1, 1))
    influence = uw.Influence(uw.Objective(model, uw.losses.SquaredError(), (x, y)), uw.inverse.Dense())
    with pytest.warns(UndeterminedWarning):
        close(influence.self_influence(leverage_corrected=True).scores, [2.0])
