"""Conjugate gradients and LSMR: as SciPy's, to their tolerance, sooner with a preconditioner."""

import pytest
import torch
from scipy.sparse.linalg import cg, minres

import upweight as uw
from problems import DOUBLE, close, convex
from solvers import spd
from upweight.curvature import Matrix
from upweight.errors import NotConvergedWarning
from upweight.inverse import CG, LSMR, Dense


@pytest.mark.parametrize("reference", [cg, minres])
def test_iterative_inverses_agree_with_those_of_scipy(reference):
    matrix, vectors = spd(), torch.randn(2, 12, dtype=DOUBLE)
    for x, v in zip(CG().fit(Matrix(matrix)).solve(vectors).x, vectors, strict=True):
        theirs, _ = reference(matrix.numpy(), v.numpy(), rtol=1e-13)
        close(x, theirs, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-9])
def test_conjugate_gradients_honour_their_tolerance(tolerance):
    matrix, vectors = spd(60, 1e-3), torch.randn(3, 60, dtype=DOUBLE)
    solution = CG(tolerance=tolerance).fit(Matrix(matrix)).solve(vectors)
    residuals = (solution.x @ matrix - vectors).norm(dim=1) / vectors.norm(dim=1)
    assert (residuals <= 1.01 * tolerance).all()
    assert solution.report.converged


def test_a_preconditioner_saves_iterations():
    matrix, vectors = spd(60, 1e-3), torch.randn(2, 60, dtype=DOUBLE)
    plain = CG().fit(Matrix(matrix)).solve(vectors)
    helped = CG(preconditioner=Dense().fit(Matrix(matrix + 1e-4 * torch.eye(60)))).fit(Matrix(matrix)).solve(vectors)
    assert helped.report.iterations < plain.report.iterations / 2
    close(helped.x, plain.x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("inverse", [CG(max_iterations=3), LSMR(max_iterations=3)], ids=["CG", "LSMR"])
def test_what_did_not_converge_says_so_with_its_residual(inverse):
    problem = convex("softmax")
    influence = uw.Influence(problem.objective(), inverse)
    with pytest.warns(NotConvergedWarning, match=r"relative residual ≤ \d.*in 3 iterations.*not reached"):
        attribution = influence.attribute((problem.query_x[:1], problem.query_y[:1]))
    assert "not reached" in str(attribution.report)
