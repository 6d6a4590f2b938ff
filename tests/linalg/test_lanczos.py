"""Lanczos's iteration against dense eigenvalues."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from problems import DOUBLE, close
from symmetric import SPECTRA, rows, times, with_spectrum
from upweight.linalg.lanczos import Krylov, lanczos, smallest_ritz


def unit(count: int, size: int, seed: int = 1) -> Tensor:
    return torch.nn.functional.normalize(rows(count, size, seed), dim=1)


def ritz(found: Krylov) -> Tensor:
    return torch.linalg.eigvalsh(found.tridiagonal)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_whole_space_has_all_eigenvalues_and_an_orthonormal_basis(spectrum: str, count: int) -> None:
    matrix = with_spectrum(SPECTRA[spectrum])
    size, largest = len(matrix), max(SPECTRA[spectrum])
    generator = torch.Generator().manual_seed(0)
    found = lanczos(
        times(matrix),
        unit(count, size),
        size,
        fresh=lambda: torch.randn(count, size, generator=generator, dtype=DOUBLE),
    )
    assert found.basis is not None
    for basis, tridiagonal, values in zip(found.basis, found.tridiagonal, ritz(found), strict=True):
        close(basis @ basis.T, torch.eye(size), atol=1e-13)
        close(basis @ matrix @ basis.T, tridiagonal, atol=1e-12 * largest)
        close(values, sorted(SPECTRA[spectrum]), atol=1e-12 * largest)
    assert found.error < 1e-12


def test_a_matrix_soon_below_rounding_is_no_trouble() -> None:
    matrix = with_spectrum(0.3 ** torch.arange(40, dtype=DOUBLE))
    seeds = iter(range(5, 100))
    found = lanczos(times(matrix), unit(1, 40), 40, fresh=lambda: rows(1, 40, next(seeds)))
    assert found.basis is not None
    close(found.basis[0] @ found.basis[0].T, torch.eye(40), atol=1e-13)
    close(found.basis[0] @ matrix @ found.basis[0].T, found.tridiagonal[0], atol=1e-13)


@pytest.mark.parametrize("whole", [True, False])
def test_an_invariant_space_ends_the_iteration(whole: bool) -> None:
    matrix = torch.diag(torch.tensor([1.0, 1.0, 2.0, 2.0, 5.0, 5.0], dtype=DOUBLE))
    found = lanczos(times(matrix), unit(1, 6), 6, whole=whole, floor=1e-12)
    close(ritz(found)[0], [1.0, 2.0, 5.0])
    assert found.off.shape == (1, 2)
    assert (found.basis is None) is not whole


def test_each_vector_has_a_space_of_its_own() -> None:
    matrix, start = with_spectrum(SPECTRA["even"]), unit(3, 12)
    for whole in (True, False):
        together = lanczos(times(matrix), start, 5, whole=whole).tridiagonal
        for row in range(3):
            close(lanczos(times(matrix), start[row : row + 1], 5, whole=whole).tridiagonal[0], together[row])


def test_both_ways_agree_as_long_as_nothing_has_converged() -> None:
    matrix, start = with_spectrum(SPECTRA["even"]), unit(2, 12)
    whole, short = (lanczos(times(matrix), start, 6, whole=each) for each in (True, False))
    close(whole.tridiagonal, short.tridiagonal, rtol=1e-9, atol=1e-11)


def test_products_that_are_wrong_show_in_the_error() -> None:
    matrix = with_spectrum(SPECTRA["even"])
    noise = 1e-6 * rows(12, 12, 4)
    assert lanczos(times(matrix), unit(1, 12), 8).error < 1e-14
    assert 1e-8 < lanczos(times(matrix + noise), unit(1, 12), 8).error < 1e-4


@pytest.mark.parametrize("lowest", [-1.0, 0.0, 1e-3])
@pytest.mark.parametrize("steps", [1, 4, 8, 50])
def test_the_smallest_ritz_value_bounds_the_smallest_eigenvalue(steps: int, lowest: float) -> None:
    matrix = with_spectrum([lowest, 0.5, 1.0, 1.0, 2.0, 3.0, 3.0, 8.0])
    found = smallest_ritz(times(matrix), rows(1, 8), steps)
    assert found >= lowest - 1e-12
    if steps >= 8:
        close(found, lowest, atol=1e-10)


def test_it_is_watched() -> None:
    seen = []

    def watch(steps, history, target):
        for step in steps:
            seen.append((step, len(history)))
            yield step

    lanczos(times(with_spectrum(SPECTRA["even"])), unit(1, 12), 4, watch=watch)
    assert seen == [(0, 0), (1, 0), (2, 0), (3, 0)]
