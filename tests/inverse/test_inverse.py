"""Every inverse solves (H + δI) x = v, the same at every call, and says how well."""

import warnings

import pytest
import torch

from problems import DOUBLE, close, convex, mlp
from solvers import SOLVERS, damped, exact, spd
from upweight.curvature import GGN, Hessian, Matrix
from upweight.inverse import CG, LSMR, Dense


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_inverse_solves_for_its_damping(name, damping):
    matrix, vectors = spd(), torch.randn(4, 12, dtype=DOUBLE)
    solver = damped(SOLVERS[name], damping).fit(Matrix(matrix))
    solution = solver.solve(vectors)
    close(solution.x, exact(matrix, vectors, damping), rtol=1e-8, atol=1e-9)
    assert solver.damping == solution.report.damping == damping
    residuals = (solution.x @ matrix + damping * solution.x - vectors).norm(dim=1) / vectors.norm(dim=1)
    close(solution.report.residuals, residuals, atol=1e-12)


@pytest.mark.parametrize("kind", [Hessian(), GGN()])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_inverse_solves_for_the_curvature_of_an_objective(name, kind):
    problem = mlp()
    matrix = {"Hessian": problem.hessian, "GGN": problem.ggn}[kind.name]()
    vectors = problem.query_gradients()
    solution = damped(SOLVERS[name], 0.05, kind).fit(problem.objective()).solve(vectors)
    close(solution.x, exact(matrix, vectors, 0.05), rtol=1e-7, atol=1e-8)
    assert kind.name in str(solution.report)


@pytest.mark.parametrize("name", SOLVERS)
def test_three_equal_calls_give_three_equal_answers(name):
    matrix, vectors = spd(), torch.randn(3, 12, dtype=DOUBLE)
    kept_matrix, kept_vectors = matrix.clone(), vectors.clone()
    solver = damped(SOLVERS[name], 0.2).fit(Matrix(matrix))
    first, second, third = (solver.solve(vectors).x for _ in range(3))
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert torch.equal(matrix, kept_matrix)  # damping is not added in place
    assert torch.equal(vectors, kept_vectors)


@pytest.mark.parametrize("name", SOLVERS)
def test_zero_vectors_have_zero_solutions(name):
    vectors = torch.randn(3, 12, dtype=DOUBLE)
    vectors[1] = 0
    x = SOLVERS[name].fit(Matrix(spd())).solve(vectors).x
    assert torch.isfinite(x).all()
    close(x[1], torch.zeros(12))
    assert x[0].norm() > 0


def test_single_precision_reaches_what_it_promises_without_a_word():
    problem = convex("softmax")
    objective = problem.objective().to(torch.float32)
    vectors = problem.query_gradients().float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for inverse in (Dense(), CG(), LSMR()):
            solution = inverse.fit(objective).solve(vectors)
            assert solution.x.dtype == torch.float32
            assert solution.report.converged
            close(solution.x, exact(problem.hessian(), vectors.double()), rtol=1e-3, atol=1e-3)
