"""Eigendecompositions with floors for rounding, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import eigh as scipys

from problems import DOUBLE, close
from symmetric import SPECTRA, rows, with_spectrum
from upweight.linalg.eigh import Eigen, eigh, pencil, unit_diagonal


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_eigenvalues_ascend_and_vectors_are_columns(spectrum: str, dtype: torch.dtype) -> None:
    matrix = with_spectrum(SPECTRA[spectrum]).to(dtype)
    values, vectors = eigh(matrix)
    assert values.dtype == vectors.dtype == dtype
    rounding = 50 * torch.finfo(dtype).eps * max(SPECTRA[spectrum])
    close(values, sorted(SPECTRA[spectrum]), atol=rounding)
    close(vectors * values @ vectors.T, matrix, atol=rounding)


def test_only_the_symmetric_part_counts() -> None:
    matrix = rows(5, 5)
    close(eigh(matrix)[0], np.linalg.eigvalsh(((matrix + matrix.T) / 2).numpy()))


@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_a_unit_diagonal_has_no_units(damping: float) -> None:
    matrix = with_spectrum(SPECTRA["even"])
    units = torch.logspace(-6, 6, 12, dtype=DOUBLE)
    scaled, scale = unit_diagonal(matrix, damping)
    close(scaled.diagonal(), torch.ones(12))
    close(scaled, scale[:, None] * (matrix + damping * torch.eye(12, dtype=DOUBLE)) * scale)
    if not damping:
        close(unit_diagonal(units[:, None] * matrix * units)[0], scaled)


def test_zeros_on_the_diagonal_stay() -> None:
    matrix = torch.diag(torch.tensor([4.0, 0.0, 9.0], dtype=DOUBLE))
    scaled, scale = unit_diagonal(matrix)
    close(scaled.diagonal(), [1.0, 0.0, 1.0])
    close(scale, [0.5, 1.0, 1 / 3])
    assert float(matrix[0, 0]) == 4  # the given one is left alone


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_pseudo_inverse_leaves_out_what_is_rounding(rank: int) -> None:
    half = rows(rank, 8)
    matrix, vectors = half.T @ half, rows(3, 8, 2)
    found = Eigen.of(matrix, torch.finfo(DOUBLE).eps)
    assert int(found.kept.sum()) == rank
    close(found.solve(vectors), vectors @ torch.linalg.pinv(matrix, hermitian=True), atol=1e-9)
    outside = vectors - vectors @ torch.linalg.pinv(half) @ half
    close(found.left_out(vectors), outside.norm(dim=1) / vectors.norm(dim=1), atol=1e-9)


def test_negative_eigenvalues_of_what_is_positive_by_form_are_the_size_of_rounding() -> None:
    matrix = with_spectrum([-1e-6, 2e-6, 1.0, 2.0])
    assert int(Eigen.of(matrix, 1e-16).kept.sum()) == 4
    assert int(Eigen.of(matrix, 1e-16, is_positive=True).kept.sum()) == 2


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_pencil_is_scipys(size: int) -> None:
    first, half = rows(size, size), rows(size + 2, size, 3)
    first, metric = first + first.T, half.T @ half
    values, vectors = pencil(first, metric)
    close(values, scipys(first.numpy(), metric.numpy(), eigvals_only=True), rtol=1e-8)
    close(first @ vectors, metric @ vectors * values, atol=1e-8 * float(values.abs().max()))
    close(vectors.T @ metric @ vectors, torch.eye(size), atol=1e-9)
