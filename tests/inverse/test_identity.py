"""With the identity for an inverse, influence is the inner product of gradients, and says so."""

import math

import torch

import upweight as uw
from problems import DOUBLE, close, convex, mlp
from upweight.inverse import CG, Identity


def test_removal_by_the_identity_is_the_gradient_product():
    problem = mlp()
    attribution = uw.Influence(problem.objective(), Identity()).attribute(problem.queries)
    close(attribution.scores, problem.query_gradients() @ problem.gradients().T / problem.n)
    close(attribution.scores, uw.similarity.gradient_dot(problem.objective(), problem.queries).scores / problem.n)
    assert (
        str(attribution.report) == "identity in place of the inverse (gradient similarity), δ=0: residual not measured"
    )


def test_the_identity_promises_nothing_and_ignores_damping():
    solver = Identity().fit(convex("ridge").objective())
    vectors = torch.randn(3, 4, dtype=DOUBLE)
    for each in (solver, solver.with_damping(0.5)):
        solution = each.solve(vectors)
        assert torch.equal(solution.x, vectors)
        assert solution.x is not vectors
        assert solution.report.damping == 0
        assert solution.report.residuals.isnan().all()
        assert math.isnan(solution.report.tolerance)
        assert solution.report.converged


def test_preconditioning_by_the_identity_changes_nothing():
    problem = mlp()
    objective, vectors = problem.objective(), problem.query_gradients()
    plain, by_identity = (
        CG(preconditioner=preconditioner).fit(objective).solve(vectors) for preconditioner in (None, Identity())
    )
    assert plain.report.iterations == by_identity.report.iterations
    close(plain.x, by_identity.x)
