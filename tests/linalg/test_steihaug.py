"""Steihaug's step against the exact one, steepest descent and its own model."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from problems import DOUBLE, close
from symmetric import rows, times, with_spectrum
from upweight.linalg.steihaug import Step, steihaug

METRIC = with_spectrum([0.5, 1.0, 2.0, 4.0], seed=3)
GRADIENT = torch.tensor([1.0, -2.0, 0.5, 1.5], dtype=DOUBLE)


def step(matrix: Tensor, radius: float, accuracy: float = 1e-12) -> Step:
    inverse = torch.linalg.inv(METRIC)
    return steihaug(times(matrix), GRADIENT, radius, times(inverse), accuracy, 50)


def model_value(matrix: Tensor, s: Tensor) -> Tensor:
    return GRADIENT @ s + 0.5 * s @ matrix @ s


def test_inside_the_region_the_step_is_newtons() -> None:
    matrix = with_spectrum([0.1, 1.0, 3.0, 10.0])
    found = step(matrix, radius=1e3)
    close(found.step, -torch.linalg.solve(matrix, GRADIENT))
    close(found.length, (found.step @ METRIC @ found.step).sqrt())
    close(found.decrease, -model_value(matrix, found.step))
    assert not found.at_edge
    assert found.negative is None


@pytest.mark.parametrize("values", [[0.1, 1.0, 3.0, 10.0], [-2.0, 1.0, 3.0, 10.0], [-1.0, -2.0, -3.0, -4.0]])
def test_at_the_edge_the_step_is_as_long_as_the_radius_and_better_than_steepest_descent(values: list[float]) -> None:
    matrix, radius = with_spectrum(values), 0.3
    found = step(matrix, radius)
    close((found.step @ METRIC @ found.step).sqrt(), radius)
    close(found.decrease, -model_value(matrix, found.step))
    steepest = -torch.linalg.solve(METRIC, GRADIENT)
    along = minimize(
        lambda t: float(model_value(matrix, t[0] * steepest)),
        [0.0],
        bounds=[(0, radius / float((steepest @ METRIC @ steepest).sqrt()))],
    )
    assert found.decrease >= -along.fun - 1e-9
    assert found.at_edge


def test_downward_curvature_is_reported_as_the_direction_has_it() -> None:
    matrix = with_spectrum([-1.0, -1.0, -1.0, -1.0])
    close(step(matrix, 0.3).negative, -1.0)


@pytest.mark.parametrize("size", [1, 5, 30])
@pytest.mark.parametrize("seed", range(3))
def test_no_step_is_longer_than_the_region_and_every_one_goes_down(size: int, seed: int) -> None:
    matrix = with_spectrum(torch.linspace(-1, 4, size), seed)
    gradient = rows(1, size, seed)[0]
    lengths, falls = [], []
    for radius in (1e-3, 0.1, 1.0, 10.0):
        found = steihaug(times(matrix), gradient, radius, lambda x: x, 1e-10, 100)
        lengths.append(float(found.step.norm()) / radius)
        falls.append(found.decrease)
        close(found.decrease, -(gradient @ found.step + 0.5 * found.step @ matrix @ found.step), atol=1e-10)
    assert max(lengths) <= 1 + 1e-9
    assert falls[0] > 0
    assert falls == sorted(falls)  # a larger region promises more


def test_products_are_limited_and_nothing_moves_without_a_slope() -> None:
    matrix = with_spectrum(torch.linspace(0.1, 4, 10))
    assert steihaug(times(matrix), rows(1, 10)[0], 1e9, lambda x: x, 1e-12, 3).products == 3
    still = steihaug(times(matrix), torch.zeros(10, dtype=DOUBLE), 1.0, lambda x: x, 1e-3, 10)
    assert (still.products, still.length) == (0, 0)
