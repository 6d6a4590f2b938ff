"""Traces by random signs against dense ones."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from problems import DOUBLE, close
from symmetric import rows, times, with_spectrum
from upweight.linalg.traces import Spectrum, mean_eigenvalue, quadrature, random_signs

VALUES = torch.logspace(-6, 1, 60, dtype=DOUBLE)
MATRIX = with_spectrum(VALUES)


def signs(count: int, size: int = 60, seed: int = 0) -> Tensor:
    return random_signs(count, size, torch.Generator().manual_seed(seed), DOUBLE, torch.device("cpu"))


def test_signs_are_signs_and_the_seed_decides() -> None:
    assert set(signs(5).flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(signs(5), signs(5))
    assert not torch.equal(signs(5), signs(5, seed=1))


def test_the_effective_dimension_is_the_trace_formula() -> None:
    spectrum = Spectrum(torch.linalg.eigvalsh(MATRIX), torch.ones(60, dtype=DOUBLE))
    expected = torch.trace(MATRIX @ torch.linalg.inv(MATRIX + 0.1 * torch.eye(60, dtype=DOUBLE)))
    close(spectrum.effective_dimension(0.1), expected)
    close(spectrum.trace, MATRIX.trace())


def test_all_signs_together_have_the_exact_mean_eigenvalue() -> None:
    small = with_spectrum([0.3, 1.0, 5.0, -2.0])
    everything = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=DOUBLE)] * 4)
    close(mean_eigenvalue(times(small), everything), small.trace() / 4)
    close(mean_eigenvalue(times(torch.diag(VALUES)), signs(1)), VALUES.mean())  # of a diagonal one is enough


def test_the_mean_eigenvalue_is_unbiased() -> None:
    found = [mean_eigenvalue(times(MATRIX), signs(4, seed=seed)) for seed in range(100)]
    assert sum(found) / 100 == pytest.approx(float(VALUES.mean()), rel=0.05)


def test_quadrature_is_near_the_truth_and_exact_in_the_mean_of_probes() -> None:
    exact = Spectrum(VALUES, torch.ones(60, dtype=DOUBLE))
    for shift in (1e-4, 1e-2, 1.0):
        found = [quadrature(times(MATRIX), signs(4, seed=seed), 40).effective_dimension(shift) for seed in range(10)]
        assert sum(found) / 10 == pytest.approx(exact.effective_dimension(shift), rel=0.1)


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_quadrature_is_gauss_and_so_exact_for_polynomials(steps: int) -> None:
    """sᵀf(A)s for every f of degree 2·steps − 1."""
    matrix = with_spectrum(torch.linspace(0.5, 3, 20))
    probes = signs(2, 20)
    found = quadrature(times(matrix), probes, steps)
    for degree in range(2 * steps):
        expected = (probes @ torch.linalg.matrix_power(matrix, degree) * probes).sum() / 2
        close((found.weights * found.values**degree).sum(), expected, rtol=1e-9)


@pytest.mark.parametrize("rank", [1, 4])
def test_a_matrix_of_low_rank_ends_early(rank: int) -> None:
    half = rows(rank, 30)
    matrix = half.T @ half
    found = quadrature(times(matrix), signs(3, 30), 40)
    close(found.weights.sum(), 30.0)
    expected = torch.linalg.eigvalsh(half @ half.T)
    nearest = (found.values[:, None] - torch.cat([expected, torch.zeros(1, dtype=DOUBLE)])).abs().amin(1)
    assert float((nearest * found.weights).sum()) < 1e-8


def test_a_matrix_of_zeros() -> None:
    found = quadrature(times(torch.zeros(5, 5, dtype=DOUBLE)), signs(2, 5), 4)
    assert not found.values.any()
    close(found.weights.sum(), 5.0)


@pytest.mark.parametrize("rank", [60, 25])
def test_effective_dimensions_of_the_probes_are_between_two_quadratures(rank: int) -> None:
    matrix = with_spectrum(torch.where(torch.arange(60) < 60 - rank, 0.0, VALUES))
    probes, bounds = signs(3), []

    def never(upper: Spectrum, lower: Spectrum) -> bool:
        bounds.append((upper, lower))
        return False

    quadrature(times(matrix), probes, 30, never)
    assert len(bounds) == 29
    for shift in (1e-3, 1e-1, 10.0):
        image = torch.linalg.solve(matrix + shift * torch.eye(60, dtype=DOUBLE), matrix)
        exact = float((probes @ image * probes).sum() / 3)
        found = [(each[0].effective_dimension(shift), each[1].effective_dimension(shift)) for each in bounds]
        assert all(low - 1e-9 <= exact <= high + 1e-9 for high, low in found)
        widths = [high - low for high, low in found]
        assert all(later <= before + 1e-9 for before, later in pairwise(widths))
        assert widths[-1] < 0.2 * exact


def test_a_quadrature_ends_where_it_is_enough() -> None:
    def at_five(upper: Spectrum, lower: Spectrum) -> bool:
        assert lower.trace <= upper.trace * (1 + 1e-9)
        return len(upper.values) == 5

    found, whole = (quadrature(times(MATRIX), signs(1), steps, how) for steps, how in ((40, at_five), (5, None)))
    close(found.values, whole.values)
    close(found.weights, whole.weights)
