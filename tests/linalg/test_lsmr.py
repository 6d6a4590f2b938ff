"""LSMR against dense least squares and SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import lsmr as scipys
from torch import Tensor

from problems import DOUBLE, close
from symmetric import rows, times, with_spectrum
from upweight.linalg import lsmr as module
from upweight.linalg.lsmr import LeastSquares, least_squares, lsmr


def solved(matrix: Tensor, vectors: Tensor, tolerance: float = 1e-11, limit: int = 400, **options) -> LeastSquares:
    return least_squares(lambda x: x @ matrix.T, lambda u: u @ matrix, vectors, tolerance, limit, **options)


def shortest(matrix: Tensor, vectors: Tensor) -> Tensor:
    return torch.as_tensor(np.linalg.lstsq(matrix.numpy(), vectors.numpy().T, rcond=1e-10)[0].T)


@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize(("m", "p"), [(9, 5), (5, 9), (7, 7)])
def test_it_gives_the_shortest_least_squares_solution(m: int, p: int, rank: int) -> None:
    matrix = rows(m, rank, 2) @ rows(rank, p, 3)
    vectors = rows(4, m)
    found = solved(matrix, vectors, measure=lambda r: r @ matrix)
    close(found.x, shortest(matrix, vectors), rtol=1e-7, atol=1e-8)
    close(found.residual, vectors - found.x @ matrix.T, atol=1e-13)


def test_indefinite_matrices_are_solved() -> None:
    matrix, vectors = with_spectrum([-2.0, -1, -0.5, 0.3, 0.7, 1, 2, 3]), rows(3, 8)
    found = solved(matrix, vectors, 1e-12)
    close(found.x, torch.linalg.solve(matrix, vectors.T).T, rtol=1e-8, atol=1e-9)
    assert float(found.reached.max()) <= 1e-12


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_every_step_is_that_of_scipy(steps: int) -> None:
    matrix, vectors = rows(12, 8, 2), rows(3, 12)
    x, slopes, ahead, norm = lsmr(lambda x: x @ matrix.T, lambda u: u @ matrix, vectors, 1e-15, steps)
    for row, v in enumerate(vectors.numpy()):
        theirs = scipys(matrix.numpy(), v, atol=0, btol=0, conlim=0, maxiter=steps)
        close(x[row], theirs[0], rtol=1e-9, atol=1e-11)
        close(slopes[-1][row], theirs[4], rtol=1e-6)
    assert len(slopes) == steps + 1
    assert ahead == 0
    assert (norm <= torch.linalg.matrix_norm(matrix, 2) * (1 + 1e-12)).all()


def test_normal_residuals_fall_and_are_what_they_say() -> None:
    matrix, vectors = rows(15, 10, 2), rows(2, 15)
    found = solved(matrix, vectors, 1e-9, measure=lambda r: r @ matrix)
    assert found.history[0] == 1
    assert list(found.history) == sorted(found.history, reverse=True)
    normal = ((vectors - found.x @ matrix.T) @ matrix).norm(dim=1) / (vectors @ matrix).norm(dim=1)
    close(found.reached, normal, atol=1e-14)
    assert float(normal.max()) <= 1e-9


def test_rows_dont_know_of_each_other() -> None:
    matrix, vectors = rows(9, 5, 2), rows(4, 9)
    vectors[2] = 0
    order = torch.tensor([3, 1, 0, 2])
    whole = solved(matrix, vectors, 1e-11).x
    assert not whole[2].any()
    close(whole[order], solved(matrix, vectors[order], 1e-11).x, atol=1e-12)
    close(whole[0], solved(matrix, vectors[:1], 1e-11).x[0], rtol=1e-9, atol=1e-10)


def test_at_a_hopeless_pace_it_stops_and_says_how_far_it_was() -> None:
    matrix = torch.diag(torch.logspace(-9, 0, 400, dtype=DOUBLE))
    found = least_squares(times(matrix), times(matrix), torch.ones(1, 400, dtype=DOUBLE), 1e-10, 300, window=100)
    assert found.ahead > 4 * 300
    assert len(found.history) < 300
    assert least_squares(times(matrix), times(matrix), torch.ones(1, 400, dtype=DOUBLE), 1e-10, 30).ahead == 0


def test_it_is_watched() -> None:
    seen: list[float] = []

    def watch(steps, history, target):
        assert len(steps) == 50
        for step in steps:
            seen.append(history[-1] / target)
            yield step

    solved(rows(9, 5, 2), rows(1, 9), 1e-8, 50, measure=lambda r: r @ rows(9, 5, 2), watch=watch)
    assert seen[0] == pytest.approx(1e8)
    assert seen[-1] <= 1


@pytest.mark.parametrize("tolerance", [1e-6, 1e-10, 1e-13])
@pytest.mark.parametrize("seed", range(12))
def test_outside_the_range_of_a_singular_matrix_rounding_isnt_solved_for(seed: int, tolerance: float) -> None:
    """Begun again from a residual that can't vanish, it would go far along directions that A takes to zero."""
    size = 4 + 3 * seed
    half = rows(1 + size * (seed % 3) // 4, size, seed)
    matrix, vectors = half.T @ half, rows(3, size, seed + 100)
    found = least_squares(times(matrix), times(matrix), vectors, tolerance, 500)
    truth = vectors @ torch.linalg.pinv(matrix, hermitian=True, rtol=1e-9)
    assert float((found.x - truth).norm() / truth.norm()) < max(1e4 * tolerance, 1e-7)
    assert len(found.history) < 500


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_residuals_are_known_without_a_product(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[Tensor] = []
    after = module._ResidualNorm.after

    def watched(self: module._ResidualNorm, *given: Tensor) -> Tensor:
        known.append(after(self, *given))
        return known[-1]

    monkeypatch.setattr(module._ResidualNorm, "after", watched)
    matrix, vectors = rows(9, 5, 2), rows(3, 9)
    x, *_ = lsmr(lambda x: x @ matrix.T, lambda u: u @ matrix, vectors, 1e-30, steps)
    close(known[-1], (vectors - x @ matrix.T).norm(dim=1))
