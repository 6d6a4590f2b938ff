"""The Neumann series on the normal equations against dense least squares."""

from __future__ import annotations

import pytest
import torch

from problems import DOUBLE, close
from symmetric import rows
from upweight.linalg.errors import DivergedError
from upweight.linalg.neumann import neumann, norm

A = rows(9, 4, 2)
NORM = float(torch.linalg.matrix_norm(A, 2))


def through(x: torch.Tensor) -> torch.Tensor:
    return x @ A.T


def back(u: torch.Tensor) -> torch.Tensor:
    return u @ A


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("nu", [None, 0.01, 2 * NORM])
def test_it_comes_to_least_squares(nu: float | None, count: int) -> None:
    v = rows(count, 9)
    x, history = neumann(through, back, v, 1e-10, 10_000, nu=nu, max_doublings=60)
    close(x, torch.linalg.lstsq(A, v.T).solution.T, rtol=1e-7, atol=1e-8)
    assert history[0] == 1
    assert history[-1] <= 1e-10


def test_every_step_is_the_series() -> None:
    v = rows(1, 9)
    x, _ = neumann(through, back, v, 1e-30, 3, nu=NORM, max_doublings=1)
    square = A.T @ A / NORM**2
    terms = [torch.linalg.matrix_power(torch.eye(4, dtype=DOUBLE) - square, power) for power in range(3)]
    close(x, back(v) @ torch.stack(terms).sum(0) / NORM**2)


def test_the_norm_is_found_from_below() -> None:
    found = norm(through, back, back(rows(1, 9)))
    close(found, NORM, rtol=1e-3)
    assert found <= NORM * (1 + 1e-12)
    assert norm(through, back, torch.zeros(1, 4, dtype=DOUBLE)) == 1


def test_scales_at_which_it_diverges_are_named() -> None:
    with pytest.raises(DivergedError) as met:
        neumann(through, back, rows(1, 9), 1e-10, 1000, nu=0.01, max_doublings=3)
    assert (met.value.first, met.value.last) == (0.01, 0.04)


def test_nothing_is_solved_by_nothing() -> None:
    x, history = neumann(through, back, torch.zeros(1, 9, dtype=DOUBLE), 1e-8, 10, nu=None, max_doublings=2)
    assert not x.any()
    assert history == (0.0,)
