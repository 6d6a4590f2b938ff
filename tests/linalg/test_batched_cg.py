"""Conjugate gradients on many systems, each against its own dense solve."""

from __future__ import annotations

import torch

from problems import DOUBLE, close
from symmetric import SPECTRA, rows, with_spectrum
from upweight.linalg.batched_cg import batched_cg

MATRICES = torch.stack([with_spectrum(SPECTRA["even"], seed) * (seed + 1) for seed in range(4)])
VECTORS = rows(4, 12)


def product(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("kij,kj->ki", MATRICES, x)


def plain(x: torch.Tensor) -> torch.Tensor:
    return x


def test_each_row_is_solved_with_its_own_matrix() -> None:
    found = batched_cg(product, VECTORS, plain, 1e-10, 100)
    close(found.x, torch.linalg.solve(MATRICES, VECTORS.unsqueeze(-1)).squeeze(-1), rtol=1e-7, atol=1e-8)
    assert found.converged
    assert float(found.residuals.max()) <= 1e-10


def test_rows_dont_know_of_each_other() -> None:
    whole = batched_cg(product, VECTORS, plain, 1e-6, 100).x
    for row in range(4):
        one = batched_cg(lambda x, row=row: x @ MATRICES[row], VECTORS[row : row + 1], plain, 1e-6, 100).x
        close(one[0], whole[row], rtol=1e-10, atol=1e-12)


def test_a_good_preconditioner_or_start_saves_products() -> None:
    count = 0

    def counted(x: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        return product(x)

    def used(**options) -> int:
        nonlocal count
        count = 0
        given = {"precondition": plain, **options}
        assert batched_cg(counted, VECTORS, tolerance=1e-8, limit=100, **given).converged
        return count

    inverses = torch.linalg.inv(MATRICES)
    exact = product(VECTORS)
    assert used(precondition=lambda x: torch.einsum("kij,kj->ki", inverses, x)) <= 2 < used()
    assert used(start=torch.einsum("kij,kj->ki", inverses, VECTORS)) == 1
    assert exact.shape == VECTORS.shape


def test_zero_rows_and_a_limit() -> None:
    vectors = VECTORS.clone()
    vectors[1] = 0
    found = batched_cg(product, vectors, plain, 1e-10, 100)
    assert found.converged
    assert not found.x[1].any()
    short = batched_cg(product, vectors, plain, 1e-10, 2)
    assert not short.converged
    truth = (vectors - product(short.x)).norm(dim=1) / vectors.norm(dim=1).clamp_min(1e-300)
    close(short.residuals, truth.to(DOUBLE), rtol=1e-9)
