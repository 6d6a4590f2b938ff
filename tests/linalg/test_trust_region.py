"""Newton's method in a trust region on functions with known minima and saddles."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from problems import DOUBLE, close
from symmetric import rows, with_spectrum
from upweight.linalg.trust_region import Walk, descend

QUARTIC = torch.tensor([1.0, 3.0, 0.2], dtype=DOUBLE)


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def double_well(x: Tensor) -> Tensor:
    """Minima at every sign of √QUARTIC, a saddle or maximum at 0."""
    return (0.25 * x**4 - 0.5 * QUARTIC * x**2).sum()


def walk(function: Callable[[Tensor], Tensor], start: Tensor, tolerance: float = 1e-9, **options) -> Walk:
    def evaluate(x: Tensor) -> tuple[float, Tensor]:
        return float(function(x)), torch.func.grad(function)(x)

    def curvature(x: Tensor) -> Callable[[Tensor], Tensor]:
        matrix = torch.func.hessian(function)(x)
        return lambda vectors: vectors @ matrix

    settings = {"precondition": lambda x: x, "radius": 1.0, "max_iterations": 200, "max_products": 50}
    return descend(evaluate, curvature, start, tolerance, **{**settings, **options})


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_bent_valley_is_followed_to_its_end(size: int) -> None:
    start = torch.full((size,), -0.5, dtype=DOUBLE)
    found = walk(rosenbrock, start)
    close(found.point, torch.ones(size), rtol=1e-6)
    assert found.gradient_norms[-1] <= 1e-9
    assert list(found.values) == sorted(found.values, reverse=True)
    close(found.values[-1], rosenbrock(found.point))


def test_a_saddle_is_left_along_negative_curvature() -> None:
    found = walk(double_well, torch.full((3,), 1e-4, dtype=DOUBLE))
    close(found.point.abs(), QUARTIC.sqrt())
    assert found.negative
    assert all(value < 0 for value in found.negative.values())
    assert not walk(double_well, 2 * QUARTIC.sqrt()).negative


@pytest.mark.parametrize("seed", range(3))
def test_a_quadratic_takes_one_step_where_the_region_allows_it(seed: int) -> None:
    matrix, slope = with_spectrum([0.1, 1.0, 3.0, 10.0], seed), rows(1, 4, seed)[0]
    found = walk(lambda x: 0.5 * x @ matrix @ x - slope @ x, torch.zeros(4, dtype=DOUBLE), 1e-2, radius=1e6)
    close(found.point, torch.linalg.solve(matrix, slope), rtol=0.2, atol=0.1)
    exact = torch.linalg.inv(matrix)
    helped = walk(
        lambda x: 0.5 * x @ matrix @ x - slope @ x,
        torch.zeros(4, dtype=DOUBLE),
        radius=1e6,
        precondition=lambda vectors: vectors @ exact,
    )
    assert (len(helped.values), helped.products) == (2, 1)
    close(helped.point, torch.linalg.solve(matrix, slope))


def test_a_minimum_is_left_alone_and_limits_are_kept() -> None:
    still = walk(rosenbrock, torch.ones(3, dtype=DOUBLE))
    assert (len(still.values), still.products) == (1, 0)
    start = torch.full((4,), -0.5, dtype=DOUBLE)
    assert len(walk(rosenbrock, start, max_iterations=3).values) <= 4
    first = walk(rosenbrock, start, max_iterations=3)
    second = walk(rosenbrock, first.point, radius=first.radius)
    whole = walk(rosenbrock, start)
    assert first.values[:-1] + second.values == whole.values  # in two parts it is the same walk


def test_where_the_function_isnt_finite_it_doesnt_go() -> None:
    found = walk(lambda x: (x - x.log()).sum(), torch.full((2,), 5.0, dtype=DOUBLE), radius=100.0)
    close(found.point, torch.ones(2))
