"""Leaving one example out where outputs are linear in θ: against closed-form refits, whatever is measured."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close, mlp
from upweight import retraining
from upweight.errors import InputError, UpweightWarning
from upweight.quantities import leverage, moved
from upweight.quantities.undetermined import UndeterminedWarning


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


class Least:
    """Least squares of several outputs by the normal equations, in one matrix per set of weights."""

    def __init__(self, outputs: int, bias: bool, l2: float, weighted: bool, n: int = 20, d: int = 3):
        self.x, self.query_x = random(1, n, d), random(2, 6, d)
        self.x[4] *= 4  # far out
        noise = random(3, n, outputs)
        self.y, self.query_y = self.x @ random(4, d, outputs) + noise, self.query_x @ random(5, d, outputs)
        self.weights = torch.linspace(0.2, 3, n, dtype=DOUBLE) if weighted else torch.ones(n, dtype=DOUBLE)
        self.bias, self.l2, self.n = bias, l2, n
        self.coefficients = self.fit(self.weights)

    def extended(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones(len(x), 1, dtype=DOUBLE)], 1) if self.bias else x

    def fit(self, weights: Tensor) -> Tensor:
        """Argmin (1/n) Σ w ½‖f − y‖² + ½ l2 ‖W‖², the intercept penalised as ``l2=`` of an objective does."""
        a = self.extended(self.x)
        matrix = a.T @ (weights[:, None] * a) / self.n + self.l2 * torch.eye(a.shape[1], dtype=DOUBLE)
        return torch.linalg.solve(matrix, a.T @ (weights[:, None] * self.y) / self.n)

    def without(self, i: int) -> Tensor:
        weights = self.weights.clone()
        weights[i] = 0
        return self.fit(weights)

    def losses(self, coefficients: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * ((self.extended(x) @ coefficients - y) ** 2).sum(1)

    def model(self, kind: str = "linear") -> nn.Module:
        outputs, d = self.y.shape[1], self.x.shape[1]
        if kind == "own":
            return Own(self.coefficients)
        layer = nn.Linear(d, outputs, bias=self.bias, dtype=DOUBLE)
        with torch.no_grad():
            layer.weight.copy_(self.coefficients[:d].T)
            if self.bias:
                layer.bias.copy_(self.coefficients[d])
        return layer

    def influence(self, kind: str = "linear", dtype: torch.dtype = DOUBLE, **options) -> uw.Influence:
        model, data = self.model(kind).to(dtype), (self.x.to(dtype), self.y.to(dtype))
        weights = self.weights.to(dtype)
        objective = uw.Objective(model, uw.losses.SquaredError(), data, l2=self.l2, weights=weights, **options)
        return uw.Influence(objective, uw.inverse.Dense())


class Own(nn.Module):
    """Linear in its parameters, but in no form that is known."""

    def __init__(self, coefficients: Tensor):
        super().__init__()
        self.slopes = nn.Parameter(coefficients[:-1].clone())
        self.shift = nn.Parameter(coefficients[-1].clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.slopes + self.shift


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
    monkeypatch.setattr(moved, "MOVED_ELEMENTS", 20)
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


# Leverage 1.


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
