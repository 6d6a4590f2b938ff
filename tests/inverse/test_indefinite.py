"""Negative and no curvature: refused with its figure, or solved where that is meant."""

import numpy as np
import pytest
import torch

from problems import DOUBLE, close
from solvers import exact
from upweight.curvature import Matrix
from upweight.errors import NegativeCurvatureError
from upweight.inverse import CG, LSMR, Dense


def test_conjugate_gradients_refuse_negative_curvature_with_its_figure():
    matrix = Matrix(torch.diag(torch.tensor([2.0, 1.0, -0.5], dtype=DOUBLE)))
    vectors = torch.ones(1, 3, dtype=DOUBLE)
    with pytest.raises(NegativeCurvatureError, match=r"= -\d.*≤ 0.*damping > .*LSMR"):
        CG().fit(matrix).solve(vectors)
    close(CG(damping=0.6).fit(matrix).solve(vectors).x, exact(matrix.matrix, vectors, 0.6))


@pytest.mark.parametrize("method", ["cholesky", "eigen"])
def test_dense_refuses_damping_below_the_smallest_eigenvalue_and_names_it(method):
    matrix = Matrix(torch.diag(torch.tensor([2.0, 1.0, -0.5], dtype=DOUBLE)))
    for damping in (0.0, 0.4):
        with pytest.raises(NegativeCurvatureError, match=r"smallest eigenvalue is -5.000e-01.*damping > 0.5"):
            Dense(method=method, damping=damping).fit(matrix)
    Dense(method=method, damping=0.51).fit(matrix)


@pytest.mark.parametrize("method", ["cholesky", "eigen"])
def test_dense_refuses_a_matrix_that_is_singular_to_rounding(method):
    rows = torch.randn(3, 8, dtype=DOUBLE)
    with pytest.raises(NegativeCurvatureError, match=r"singular to rounding.* 5 of 8 directions.*larger damping"):
        Dense(method=method).fit(Matrix(rows.T @ rows))


@pytest.mark.parametrize("inverse", [LSMR(tolerance=1e-13), Dense(indefinite=True)], ids=["LSMR", "eigen"])
def test_indefinite_matrices_are_solved_where_they_are_meant_to_be(inverse):
    q, _ = torch.linalg.qr(torch.randn(8, 8, dtype=DOUBLE))
    matrix = q @ torch.diag(torch.tensor([-2.0, -1, -0.5, 0.3, 0.7, 1, 2, 3], dtype=DOUBLE)) @ q.T
    vectors = torch.randn(3, 8, dtype=DOUBLE)
    close(inverse.fit(Matrix(matrix)).solve(vectors).x, exact(matrix, vectors), rtol=1e-7, atol=1e-8)


def test_lsmr_gives_the_shortest_least_squares_solution_of_a_singular_matrix():
    rows = torch.randn(4, 9, dtype=DOUBLE)
    matrix, vectors = rows.T @ rows, torch.randn(3, 9, dtype=DOUBLE)
    x = LSMR(tolerance=1e-14).fit(Matrix(matrix)).solve(vectors).x
    expected = np.linalg.lstsq(matrix.numpy(), vectors.numpy().T, rcond=1e-10)[0].T
    close(x, expected, rtol=1e-7, atol=1e-8)
