"""Damping and penalties of K-FAC and EK-FAC."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eigenbases import BOTH, moments, rotation
from problems import DOUBLE, close, mlp
from upweight.curvature import EmpiricalFisher, Fisher
from upweight.curvature.kronecker import kronecker_factors
from upweight.inverse import EKFAC, KFAC, MeanEigenvalue, MeanLeverage
from upweight.inverse.kfac import factored_damping


@pytest.mark.parametrize("inverse", BOTH)
def test_a_multiple_of_the_mean_eigenvalue_is_exact_and_costs_no_fit(inverse: Any) -> None:
    objective = mlp().objective()
    solver = inverse(EmpiricalFisher(), damping=MeanEigenvalue(2.0)).fit(objective)
    close(solver.damping, 2 * solver.operator.dense().trace() / objective.p)
    again = solver.with_damping(0.3)
    assert again.operator is solver.operator
    vectors = mlp().query_gradients()
    close(again.solve(vectors).x, inverse(EmpiricalFisher(), damping=0.3).fit(objective).solve(vectors).x)
    assert again.damping == 0.3


def test_a_mean_leverage_is_exact_and_auto_leaves_what_the_penalty_damps() -> None:
    objective = mlp().objective(l2=1e-4)
    for inverse in BOTH:
        solver = inverse(EmpiricalFisher(), damping=MeanLeverage(0.3)).fit(objective)
        values = moments(solver.operator)
        close((values / (values + 1e-4 + solver.damping)).sum() / objective.n, 0.3, rtol=1e-3)
        close(solver.with_damping("auto").damping, 0.1 * values.sum() / objective.p - 1e-4)
        strong = inverse(EmpiricalFisher(), damping="auto").fit(mlp().objective(l2=10.0))
        assert strong.damping == 0


@pytest.mark.parametrize("inverse", BOTH)
def test_auto_damps_what_has_no_penalty_however_strong_that_of_others(inverse: Any) -> None:
    objective = mlp().objective(l2={"0.weight": 10.0, "2.weight": 10.0})  # none on biases, as a Trainer's decay
    solver = inverse(EmpiricalFisher(), damping="auto").fit(objective)
    close(solver.damping, 0.1 * moments(solver.operator).sum() / objective.p)


def test_ekfac_with_different_penalties_of_weight_and_bias() -> None:
    objective = mlp().objective(l2={"0.*": 0.3, "2.weight": 0.1})  # none on the last bias
    solver = EKFAC(EmpiricalFisher(), damping=0.02).fit(objective)
    turn = rotation(solver.operator)
    curvature = turn @ EmpiricalFisher().of(objective).dense() @ turn.T  # the penalty included
    expected = turn.T @ torch.diag(1 / (curvature.diagonal() + 0.02)) @ turn
    close(solver.solve(torch.eye(objective.p, dtype=DOUBLE)).x, expected)


def test_ekfac_without_the_penalty_is_that_of_an_objective_without_l2() -> None:
    problem = mlp()
    objective, plain = problem.objective(l2=0.1), problem.objective(l2=0.0)
    found = EKFAC(Fisher(seed=3), damping=0.01, penalized=False).fit(objective)
    expected = EKFAC(Fisher(seed=3), damping=0.01).fit(plain)
    vectors = torch.randn(3, objective.p, dtype=objective.dtype)
    close(found.solve(vectors).x, expected.solve(vectors).x)
    close(found.operator.apply(vectors), expected.operator.apply(vectors))
    close(found.operator.trace(), expected.operator.trace())
    assert "without the penalty" in found.name
    mean = expected.operator.trace() / objective.p
    close(found.with_damping("auto").damping, 1e-4 * mean)


def test_factored_damping_is_that_of_the_paper() -> None:
    objective = mlp().objective(l2=0.04)
    solver = KFAC(EmpiricalFisher(), damping=0.05).fit(objective)
    blocks = []
    for factors in kronecker_factors(EmpiricalFisher().rows(objective)).values():
        g, a = factors.left, factors.right
        pi = ((a.trace() / len(a)) / (g.trace() / len(g))).sqrt()
        damped = [side + part * torch.eye(len(side), dtype=DOUBLE) for side, part in ((g, 0.3 / pi), (a, 0.3 * pi))]
        blocks.append(torch.linalg.inv(torch.kron(*damped)).reshape(len(g), len(a), len(g), len(a)))
    vectors = torch.randn(2, objective.p, dtype=DOUBLE)
    matrices = solver.operator.frame.matrices(vectors)
    solved = [torch.einsum("krc,rcst->kst", m, b) for m, b in zip(matrices, blocks, strict=True)]
    close(solver.solve(vectors).x, solver.operator.frame.vectors(solved))


def test_a_side_of_one_number_is_damped_exactly() -> None:
    one, many = torch.tensor([2.0]), torch.tensor([0.5, 3.0])
    for left, right in ((one, many), (many, one)):
        close(torch.outer(*factored_damping(left, right, 0.7)), torch.outer(left, right) + 0.7)
    flat = factored_damping(torch.zeros(2), many, 0.09)
    assert bool(torch.isfinite(torch.outer(*flat)).all())
