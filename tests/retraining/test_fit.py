"""Training to the optimum."""

import importlib
from collections.abc import Callable
from itertools import count

import pytest
import torch

import upweight as uw
from problems import DOUBLE, Problem, close, convex, mlp, with_parameters
from upweight.errors import InputError, NotConvergedWarning


def untrained(problem: Problem) -> uw.Objective:
    started = with_parameters(problem.model, torch.zeros_like(problem.theta))
    return uw.Objective(
        started, problem.objective().loss, (problem.x, problem.y), l2=problem.l2, parameters=lambda name, value: True
    )


def test_reaches_the_optimum_found_by_plain_newton(convex: Problem) -> None:
    found = uw.retraining.fit(untrained(convex))
    close(found.params, convex.theta, rtol=1e-7, atol=1e-9)
    assert found.gradient().norm() <= 1e-9


@pytest.mark.parametrize("limit", [0, 10_000], ids=["conjugate gradients", "factorised"])
def test_reaches_the_optimum_on_both_sides_of_the_size_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("upweight.retraining.fit"), "FACTORISED_UP_TO", limit)
    problem = convex("softmax")
    found = uw.retraining.fit(untrained(problem))
    close(found.params, problem.theta, rtol=1e-7, atol=1e-9)


def test_a_badly_scaled_problem_converges() -> None:
    problem = convex("logistic")
    scales = torch.tensor([1e-2, 1.0, 1e2], dtype=DOUBLE)
    model = torch.nn.Linear(3, 1, bias=False, dtype=DOUBLE)
    objective = uw.Objective(model, uw.losses.BinaryLogistic(), (problem.x * scales, problem.y), l2=1e-3)
    assert uw.retraining.fit(objective, tolerance=1e-8).gradient().norm() <= 1e-8


def test_the_given_model_stays_as_it_is() -> None:
    objective = untrained(convex("logistic"))
    uw.retraining.fit(objective)
    assert not dict(objective.model.named_parameters())["weight"].any()
    assert objective.model.weight.grad is None


def test_a_network_finds_a_point_without_gradient() -> None:
    problem = mlp()
    generator = torch.Generator().manual_seed(0)
    start = problem.theta + 0.05 * torch.randn(len(problem.theta), generator=generator, dtype=DOUBLE)
    objective = uw.Objective(
        with_parameters(problem.model, start), uw.losses.CrossEntropy(), (problem.x, problem.y), l2=problem.l2
    )
    found = uw.retraining.fit(objective, tolerance=1e-8)
    assert found.gradient().norm() <= 1e-8
    assert found.risk() < objective.risk()


def test_says_how_far_it_came_when_there_is_no_optimum() -> None:
    x = torch.tensor([[-1.0], [1.0]], dtype=DOUBLE)
    model = torch.nn.Linear(1, 1, bias=False, dtype=DOUBLE)
    objective = uw.Objective(model, uw.losses.BinaryLogistic(), (x, torch.tensor([0, 1])))
    with pytest.warns(NotConvergedWarning, match=r"‖∇R‖ = .* separable"):
        uw.retraining.fit(objective, max_iterations=3)


def test_refuses_a_tolerance_of_zero() -> None:
    with pytest.raises(InputError, match="tolerance"):
        uw.retraining.fit(convex("ridge").objective(), tolerance=0)


def told_otherwise(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, float, torch.Tensor], object]) -> None:
    """Let every evaluation but the first tell another risk or gradient: number of the call, R and ∇R to a pair."""
    module = importlib.import_module("upweight.retraining.fit")
    real, calls = module._evaluate, count()
    monkeypatch.setattr(module, "_evaluate", lambda objective: change(next(calls), *real(objective)))


def test_where_the_risk_is_flat_to_rounding_the_gradient_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """R seems to rise with every evaluation, by less than rounding: steps are taken for their gradient's sake."""
    told_otherwise(monkeypatch, lambda number, risk, gradient: (1.0 + number * 1e-15, gradient))
    problem = convex("softmax")
    close(uw.retraining.fit(untrained(problem)).params, problem.theta, rtol=1e-7, atol=1e-9)


def test_a_step_that_raises_the_risk_is_not_taken_for_its_gradient_s_sake(monkeypatch: pytest.MonkeyPatch) -> None:
    told_otherwise(
        monkeypatch,
        lambda number, risk, gradient: (risk + (1.0 if number else 0.0), gradient * (0.0 if number else 1.0)),
    )
    start = untrained(convex("softmax"))
    with pytest.warns(NotConvergedWarning):
        assert torch.equal(uw.retraining.fit(start).params, start.params)


def test_a_flat_step_that_leaves_the_gradient_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    told_otherwise(monkeypatch, lambda number, risk, gradient: (1.0 + number * 1e-15, torch.ones_like(gradient)))
    start = untrained(convex("softmax"))
    with pytest.warns(NotConvergedWarning):
        assert torch.equal(uw.retraining.fit(start).params, start.params)
