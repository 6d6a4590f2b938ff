"""The power method against dense eigenvalues."""

from __future__ import annotations

import pytest
import torch

from problems import DOUBLE, close
from symmetric import rows, times, with_spectrum
from upweight.linalg.power import power


@pytest.mark.parametrize("extreme", [7.0, -7.0])
@pytest.mark.parametrize("size", [1, 4, 30])
def test_the_largest_eigenvalue_is_found_by_its_size(size: int, extreme: float) -> None:
    matrix = with_spectrum([extreme, *torch.linspace(-3, 3, size - 1).tolist()])
    close(power(times(matrix), rows(1, size), 60), 7.0)


@pytest.mark.parametrize("steps", range(1, 8))
def test_it_comes_from_below(steps: int) -> None:
    matrix = with_spectrum([1.0, 2.0, 3.0, 3.1])
    one, more = (power(times(matrix), rows(1, 4), number) for number in (steps, steps + 1))
    assert one <= more <= 3.1 + 1e-12


def test_the_scale_of_the_start_doesnt_matter() -> None:
    matrix = with_spectrum([1.0, 2.0, 3.0])
    close(power(times(matrix), 1e-200 * rows(1, 3), 5), power(times(matrix), 1e200 * rows(1, 3), 5))


def test_nothing_comes_of_nothing() -> None:
    zero = torch.zeros(3, 3, dtype=DOUBLE)
    assert power(times(zero), rows(1, 3), 5) == 0
    assert power(times(torch.eye(3, dtype=DOUBLE)), torch.zeros(1, 3, dtype=DOUBLE), 5) == 0
