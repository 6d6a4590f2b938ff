"""The walk to a stationary point, against plain linear algebra and plain Newton."""

import copy
import importlib

import pytest
import torch
from torch import Tensor

import upweight as uw
from problems import DOUBLE, Problem, close, convex, mlp, with_parameters
from upweight.errors import InputError, NotConvergedWarning

module = importlib.import_module("upweight.retraining.trust_region")


def moved(problem: Problem, scale: float, seed: int = 0, around: Tensor | None = None) -> uw.Objective:
    """The problem at its θ, or another, and a random step."""
    theta = problem.theta if around is None else around
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    model = with_parameters(problem.model, theta + scale * noise)
    return uw.Objective(model, problem.objective().loss, (problem.x, problem.y), l2=problem.l2)


def test_a_convex_risk_ends_at_its_optimum(convex: Problem) -> None:
    found = uw.retraining.trust_region(moved(convex, 1.0))
    close(found.objective.params, convex.theta, rtol=1e-6, atol=1e-8)
    assert found.converged
    assert not found.negative


def test_the_walk_leaves_a_saddle_along_negative_curvature() -> None:
    problem = mlp()
    start = moved(problem, 1e-3, around=torch.zeros_like(problem.theta))
    assert uw.retraining.lowest_curvature(start) < 0
    found = uw.retraining.trust_region(start)
    assert found.negative
    assert all(value < 0 for value in found.negative.values())
    hessian = torch.func.hessian(problem.risk)(found.objective.params)
    close(uw.retraining.lowest_curvature(found.objective), torch.linalg.eigvalsh(hessian)[0])
    assert torch.linalg.eigvalsh(hessian)[0] > 0
    assert torch.func.grad(problem.risk)(found.objective.params).norm() <= 1e-9


def test_risks_fall_at_every_step_and_are_those_of_the_objective() -> None:
    start = moved(mlp(), 0.3)
    found = uw.retraining.trust_region(start)
    assert list(found.risks) == sorted(found.risks, reverse=True)
    close(found.risks[0], start.risk())
    close(found.risks[-1], found.objective.risk())
    close(found.gradient_norms[-1], found.objective.gradient().norm(), rtol=1e-6)


def test_a_preconditioner_finds_the_same_minimum_in_fewer_products() -> None:
    problem = mlp()
    start = moved(problem, 0.05)
    plain = uw.retraining.trust_region(start)
    solver = uw.inverse.Dense(uw.curvature.GGN()).fit(start)
    helped = uw.retraining.trust_region(start, solver=solver)
    close(helped.objective.params, plain.objective.params, rtol=1e-5, atol=1e-7)
    assert helped.products < plain.products


def test_the_given_model_stays_as_it_is() -> None:
    start = moved(mlp(), 0.1)
    before = copy.deepcopy(start.model.state_dict())
    uw.retraining.trust_region(start)
    for name, value in start.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(value.grad is None for value in start.model.parameters())


@pytest.mark.parametrize("preconditioned", [False, True])
def test_lowest_curvature_by_iteration_is_the_smallest_eigenvalue(
    preconditioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = moved(mlp(), 0.5)
    exact = torch.linalg.eigvalsh(torch.func.hessian(mlp().risk)(start.params))[0]
    monkeypatch.setattr(module, "DECOMPOSED_UP_TO", 0)
    solver = uw.inverse.Dense(uw.curvature.GGN(), damping=0.01).fit(start) if preconditioned else None
    close(uw.retraining.lowest_curvature(start, solver=solver), exact, rtol=1e-3, atol=1e-4)


def test_another_matrix_takes_the_hessians_place() -> None:
    problem = mlp()
    start, ggn = moved(problem, 0.3), uw.curvature.GGN()
    close(uw.retraining.lowest_curvature(start, curvature=ggn), torch.linalg.eigvalsh(ggn.of(start).dense())[0])
    found = uw.retraining.trust_region(start, curvature=ggn, tolerance=1e-3)  # linearly, not quadratically
    assert found.converged
    assert not found.negative


def test_a_walk_in_two_parts_is_the_same_walk() -> None:
    start = moved(mlp(), 0.5)
    with pytest.warns(NotConvergedWarning):
        first = uw.retraining.trust_region(start, max_iterations=3, tolerance=1e-6)
    second = uw.retraining.trust_region(first.objective, radius=first.radius, tolerance=1e-6)
    whole = uw.retraining.trust_region(start, tolerance=1e-6)
    close(second.objective.params, whole.objective.params)
    assert first.risks[:-1] + second.risks == whole.risks


def test_too_few_steps_are_said() -> None:
    with pytest.warns(NotConvergedWarning, match="tolerance 1e-09 not reached"):
        found = uw.retraining.trust_region(moved(mlp(), 0.5), max_iterations=1)
    assert not found.converged
    assert len(found.risks) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, r"tolerance: give a finite number > 0; got 0.0"),
        ({"radius": 0.0}, "radius: give a finite number > 0; got 0.0"),
        ({"max_iterations": 0}, "max_iterations: give a whole number of at least 1; got 0"),
        ({"max_products": 0}, "max_products: give a whole number of at least 1; got 0"),
    ],
)
def test_impossible_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        uw.retraining.trust_region(mlp().objective(), **options)


def test_a_preconditioner_of_another_model_is_refused() -> None:
    solver = uw.inverse.Dense().fit(convex("ridge").objective())
    with pytest.raises(InputError, match="solver: it inverts a matrix of 4 rows; the model has p=31"):
        uw.retraining.trust_region(mlp().objective(), solver=solver)
