"""The diagonal inverse is that of the diagonal of the curvature's matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from problems import close, conv, convex, mlp
from upweight.curvature import GGN, EmpiricalFisher, Fisher, Matrix
from upweight.errors import InputError
from upweight.inverse import CG, Diagonal, MeanEigenvalue


@pytest.mark.parametrize("curvature", [EmpiricalFisher(), Fisher(samples=2), GGN()])
@pytest.mark.parametrize("problem", [mlp, conv])
def test_it_divides_by_the_diagonal(problem: Any, curvature: Any) -> None:
    objective = problem().objective()
    solver = Diagonal(curvature, damping=0.03).fit(objective)
    diagonal = curvature.of(objective).dense().diagonal()
    vectors = problem().query_gradients()
    close(solver.solve(vectors).x, vectors / (diagonal + 0.03))
    close(solver.operator.dense(), torch.diag(diagonal))
    close(solver.with_damping(MeanEigenvalue(3.0)).damping, 3 * diagonal.mean())


@pytest.mark.parametrize("problem", [mlp, conv])
def test_scores_by_factors_are_those_of_the_solution(problem: Any) -> None:
    objective = problem().objective()
    solver = Diagonal(damping=0.03).fit(objective)
    train = objective.engine.function.each(objective.params, (problem().x, problem().y))
    expected = solver.solve(problem().gradients()[:4]).x @ problem().gradients().T
    close(solver.scorer(train.take(slice(0, 4)))(train), expected)


def test_penalties_by_parameter_are_exact() -> None:
    objective = mlp().objective(l2={"0.weight": 0.5, "2.*": 0.1})
    solver = Diagonal(EmpiricalFisher(), damping=0.01).fit(objective)
    vectors = mlp().query_gradients()
    close(solver.solve(vectors).x, vectors / (EmpiricalFisher().of(objective).dense().diagonal() + 0.01))


def test_it_preconditions_cg_where_features_differ_in_scale() -> None:
    problem = convex("ridge")
    objective = problem.objective(l2=1e-6, data=(problem.x * torch.tensor([1.0, 100.0, 0.01]), problem.y))
    vectors = problem.query_gradients()
    plain, helped = (CG(GGN(), preconditioner=each).fit(objective).solve(vectors) for each in (None, Diagonal(GGN())))
    assert helped.report.converged
    close(helped.x, plain.x, rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_inverted_is_refused() -> None:
    problem = convex("softmax")
    x = problem.x.clone()
    x[:, 0] = 0
    with pytest.raises(InputError, match=r"damping: the diagonal of the Fisher .* singular in 'weight'"):
        Diagonal(damping=0.0).fit(problem.objective(l2=0.0, data=(x, problem.y)))
    with pytest.raises(InputError, match=r"inverse\.Diagonal: needs an objective"):
        Diagonal(damping=0.1).fit(Matrix(torch.eye(2)))
