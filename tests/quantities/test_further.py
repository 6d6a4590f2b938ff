"""Newton steps beyond the first, for examples that the model leans on: against refits by plain differentiation."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import upweight as uw
from problems import DOUBLE, close
from upweight import retraining
from upweight.errors import InputError, NotConvergedWarning, UpweightWarning
from upweight.quantities import further

N, D = 40, 3
SOME = [4, 9, 0, 1, 2, 30]
"""Examples that are left out for real: those far out, and ordinary ones."""
Losses = Callable[[Tensor, Tensor, Tensor], Tensor]


def logistic(matrix: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits((x @ matrix.T)[:, 0], y.to(x), reduction="none")


def softmax(matrix: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(x @ matrix.T, y, reduction="none")


def squared_hinge(matrix: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (1 - (2 * y - 1) * (x @ matrix.T)[:, 0]).clamp_min(0) ** 2


KINDS: dict[str, tuple[Losses, object, int]] = {
    "logistic": (logistic, uw.losses.BinaryLogistic(), 1),
    "softmax": (softmax, uw.losses.CrossEntropy(), 3),
    "squared hinge": (squared_hinge, uw.losses.SquaredHinge(), 1),
}


class Far:
    """Two classes or three of normal points, two of which lie far out with labels that nobody else would give."""

    def __init__(self, kind: str, *, l2: float = 1e-3, bias: bool = True, weighted: bool = False, far: float = 8.0):
        self.losses, self.loss, outputs = KINDS[kind]
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(N, D, generator=generator, dtype=DOUBLE)
        classes = max(outputs, 2)
        y = (x @ torch.randn(D, classes, generator=generator, dtype=DOUBLE)).argmax(1)
        flipped = torch.rand(N, generator=generator) < 0.15
        self.x, self.y = x, torch.where(flipped, (y + 1) % classes, y)
        self.x[4] *= far
        self.y[4] = (self.y[4] + 1) % classes
        self.x[9, 2] = far
        self.weights = torch.linspace(0.5, 2, N, dtype=DOUBLE) if weighted else torch.ones(N, dtype=DOUBLE)
        layer = nn.Linear(D, outputs, bias=bias, dtype=DOUBLE)
        nn.init.zeros_(layer.weight)
        data = (self.x, self.y)
        self.l2 = l2
        objective = uw.Objective(layer, self.loss, data, l2=l2, weights=self.weights)
        self.objective = retraining.fit(objective)
        self.queries = (torch.randn(6, D, generator=generator, dtype=DOUBLE), torch.arange(6) % classes)
        self.matrix = self.as_matrix(self.objective.params)

    def as_matrix(self, theta: Tensor) -> Tensor:
        """θ with the bias as last column."""
        rows = self.objective.model.weight.shape[0]
        weight = theta[: rows * D].reshape(rows, D)
        return torch.cat([weight, theta[rows * D :, None]], 1) if len(theta) > rows * D else weight

    def extended(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones(len(x), 1, dtype=DOUBLE)], 1) if self.matrix.shape[1] > D else x

    def without(self, i: int, damping: float = 0.0) -> Tensor:
        """The refit, by Newton's method with differentiated derivatives, halved where the risk would rise."""
        kept = self.weights * (torch.arange(N) != i)
        x, shape, start = self.extended(self.x), self.matrix.shape, self.matrix.flatten()

        def risk(theta: Tensor) -> Tensor:
            values = self.losses(theta.reshape(shape), x, self.y)
            return (kept * values).sum() / N + self.l2 / 2 * theta @ theta + damping / 2 * ((theta - start) ** 2).sum()

        theta = start
        for _ in range(60):
            slope = torch.func.grad(risk)(theta)
            if slope.norm() < 1e-11:
                return theta.reshape(shape)
            step, length = torch.linalg.solve(torch.func.hessian(risk)(theta), -slope), 1.0
            while risk(theta + length * step) > risk(theta) + 1e-13:
                length /= 2
            theta = theta + length * step
        raise AssertionError(slope.norm())

    def changes(self, damping: float = 0.0) -> Tensor:
        """Of the queries' losses, without each of `SOME`."""
        x, y = self.extended(self.queries[0]), self.queries[1]
        before = self.losses(self.matrix, x, y)
        return torch.stack([self.losses(self.without(i, damping), x, y) - before for i in SOME], 1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("logistic", {}),
        ("logistic", {"bias": False, "weighted": True}),
        ("logistic", {"far": 30.0, "l2": 1e-4}),
        ("softmax", {}),
        ("softmax", {"weighted": True, "far": 15.0}),
        ("squared hinge", {}),
    ],
)
def test_further_steps_lead_to_the_refit(kind, options):
    problem = Far(kind, **options)
    influence = uw.Influence(problem.objective)
    expected = problem.changes()
    one = influence.attribute(problem.queries, leverage_corrected=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UpweightWarning)
        many = influence.attribute(problem.queries, leverage_corrected=True, newton_steps=12)
    assert (many.scores[:, SOME] - expected).norm() < 0.01 * expected.norm()
    if kind != "squared hinge":  # which one step often solves
        assert (one.scores[:, SOME] - expected).norm() > 0.05 * expected.norm()
    some = [9, 4, 0]
    close(influence.attribute(problem.queries, leverage_corrected=True, newton_steps=12, train=some).scores,
          many.scores[:, some])  # fmt: skip
    assert "up to 12" in many.quantity.words
    assert many.quantity.name == one.quantity.name


@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_with_damping_they_lead_to_the_damped_refit(damping):
    problem = Far("logistic")
    influence = uw.Influence(problem.objective, uw.inverse.Dense(damping=damping))
    found = influence.attribute(problem.queries, leverage_corrected=True, newton_steps=12, train=SOME).scores
    expected = problem.changes(damping)
    assert (found - expected).norm() < 0.01 * expected.norm()


def test_in_float32_and_by_batches():
    problem = Far("logistic")
    exact = uw.Influence(problem.objective).attribute(problem.queries, leverage_corrected=True, newton_steps=12).scores
    single = problem.objective.to(torch.float32)
    queries = (problem.queries[0].float(), problem.queries[1])
    found = uw.Influence(single).attribute(queries, leverage_corrected=True, newton_steps=12).scores
    assert (found - exact).norm() < 1e-3 * exact.norm()
    batched = uw.Influence(problem.objective.replace(batch_size=7))
    close(batched.attribute(problem.queries, leverage_corrected=True, newton_steps=12).scores, exact)


def test_squared_error_needs_none():
    problem = Far("logistic")
    data = (problem.x, problem.x[:, :1] + 0.1)
    layer = nn.Linear(D, 1, dtype=DOUBLE)
    influence = uw.Influence(retraining.fit(uw.Objective(layer, uw.losses.SquaredError(), data, l2=0.01)))
    one, many = (influence.attribute(data, leverage_corrected=True, newton_steps=k).scores for k in (1, 5))
    close(one, many)


def test_verify_of_them_finds_the_refits():
    problem = Far("logistic")
    influence, queries = uw.Influence(problem.objective), tuple(each[:2] for each in problem.queries)
    one, many = (influence.verify(queries, 5, leverage_corrected=True, newton_steps=steps) for steps in (1, 12))
    assert many.slope == pytest.approx(1, abs=1e-3)
    assert abs(one.slope - 1) > 0.05
    corrected = influence.attribute(queries, leverage_corrected=True, newton_steps=12).scores
    close(many.predicted, corrected.gather(1, many.positions))
    close(many.predicted.abs(), corrected.abs().topk(5, dim=1).values)
    drawn = influence.verify(queries, 3, leverage_corrected=True, newton_steps=12, select="random", seed=3)
    close(drawn.predicted, corrected.gather(1, drawn.positions))


def test_too_few_steps_are_named_with_what_is_left():
    problem = Far("logistic", far=40.0, l2=1e-5)
    influence = uw.Influence(problem.objective)
    with pytest.warns(NotConvergedWarning, match=r"after 2 Newton steps.* still to go: \d+% \(example 4\)"):
        influence.attribute(problem.queries, leverage_corrected=True, newton_steps=2)


def test_steps_that_would_take_too_long_are_named_with_the_moves(monkeypatch):
    problem = Far("logistic")
    monkeypatch.setattr(further, "AFFORDABLE", 2e3)
    with pytest.warns(NotConvergedWarning, match=r"scores are one Newton step.*move by up to [\d.]+ \(example 9\)"):
        found = uw.Influence(problem.objective).attribute(problem.queries, leverage_corrected=True, newton_steps=12)
    one = uw.Influence(problem.objective).attribute(problem.queries, leverage_corrected=True)
    others = [i for i in range(N) if i != 4]  # the farthest is still afforded
    close(found.scores[:, others], one.scores[:, others])
    close(found.scores[:, 4], problem.changes()[:, 0], rtol=0.01)


def test_a_flat_risk_keeps_the_first_step_and_is_named():
    """Row 3 alone has a column: without it and without l2 there is no one minimum."""
    problem = Far("logistic")
    x = torch.cat([problem.x, (torch.arange(N) == 3).to(DOUBLE)[:, None]], 1)
    layer = nn.Linear(D + 1, 1, dtype=DOUBLE)
    y = problem.x[:, :1] + 0.1
    influence = uw.Influence(retraining.fit(uw.Objective(layer, uw.losses.SquaredError(), (x, y))))
    with pytest.warns(UpweightWarning) as told:
        many = influence.attribute((x, y), leverage_corrected=True, newton_steps=5).scores
    assert any("leverage 1" in str(each.message) for each in told)
    with pytest.warns(UpweightWarning):
        one = influence.attribute((x, y), leverage_corrected=True).scores
    close(many, one)


REFUSED = {
    "without leverage": ({"newton_steps": 3}, "newton_steps: got 3; they go with leverage_corrected=True"),
    "none": ({"newton_steps": 0, "leverage_corrected": True}, "newton_steps: give .*got 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_steps_that_cannot_be_are_refused(name):
    options, message = REFUSED[name]
    problem = Far("logistic")
    influence = uw.Influence(problem.objective)
    with pytest.raises(InputError, match=message):
        influence.attribute(problem.queries, **options)
    with pytest.raises(InputError, match=message):
        influence.verify(problem.queries, 5, **options)
    with pytest.raises(InputError, match=message):
        uw.tasks.explain(influence, problem.queries, **options)


def test_networks_take_one_step():
    model = nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    problem = Far("logistic")
    objective = uw.Objective(model, uw.losses.BinaryLogistic(), (problem.x, problem.y), l2=0.1)
    influence = uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN(), damping=0.1))
    with pytest.raises(InputError, match="newton_steps: got 4; more than one takes a model whose one trained layer"):
        influence.attribute(problem.queries, leverage_corrected=True, newton_steps=4)


def test_retraining_that_keeps_the_mean_has_no_leverage_corrected_prediction():
    problem = Far("logistic")
    with pytest.raises(InputError, match=r"leverage_corrected: .*renormalize=False"):
        uw.Influence(problem.objective).verify(problem.queries, 5, leverage_corrected=True, renormalize=True)
