"""The Nyström approximation against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from problems import DOUBLE, close
from symmetric import SPECTRA, rows, times, with_spectrum
from upweight.linalg.errors import NotPositiveError
from upweight.linalg.nystrom import nystrom


def orthonormal(rank: int, size: int) -> Tensor:
    return torch.linalg.qr(rows(rank, size, 7).T)[0].T


@pytest.mark.parametrize("rank", [1, 5, 12])
@pytest.mark.parametrize("spectrum", ["even", "decaying"])
def test_it_is_its_formula_and_never_more_than_the_matrix(spectrum: str, rank: int) -> None:
    matrix = with_spectrum(SPECTRA[spectrum])
    test = orthonormal(rank, len(matrix))
    values, vectors, noise = nystrom(times(matrix), test)
    found = vectors.T * values @ vectors
    close(found, matrix @ test.T @ torch.linalg.inv(test @ matrix @ test.T) @ test @ matrix, atol=1e-8)
    close(vectors @ vectors.T, torch.eye(rank), atol=1e-12)
    assert values.tolist() == sorted(values.tolist(), reverse=True)
    assert torch.linalg.eigvalsh(matrix - found)[0] > -1e-10
    assert noise < 1e-13


@pytest.mark.parametrize("rank", [2, 6])
def test_a_matrix_of_that_rank_is_known_exactly(rank: int) -> None:
    half = rows(rank, 20)
    matrix = half.T @ half
    values, vectors, _ = nystrom(times(matrix), orthonormal(rank + 2, 20))
    close(vectors.T * values @ vectors, matrix, atol=1e-9)
    assert (values[rank:] < 1e-9).all()


def test_only_the_span_of_the_test_rows_counts() -> None:
    matrix, test = with_spectrum(SPECTRA["decaying"]), orthonormal(5, 20)
    turn = torch.linalg.qr(rows(5, 5, 3))[0]
    one, other = (nystrom(times(matrix), each) for each in (test, turn @ test))
    close(one[0], other[0], atol=1e-10)


def test_zeros_and_negative_curvature() -> None:
    values, _, _ = nystrom(times(torch.zeros(6, 6, dtype=DOUBLE)), orthonormal(3, 6))
    assert float(values.max()) < 1e-300
    with pytest.raises(NotPositiveError) as met:
        nystrom(times(with_spectrum([1.0, 2.0, -0.4, 0.5])), orthonormal(4, 4))
    close(met.value.quotient, -0.4)
