"""The dual inverse is exact (spec: oracle 16), whatever the metric, the blocks and the damping."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import upweight as uw
from problems import Problem, close, conv, mlp
from upweight.curvature import GGN, EmpiricalFisher, Fisher
from upweight.errors import InputError
from upweight.inverse import CG, Dual

DOUBLE = torch.float64
DAMPING = 0.03


def truth(problem: Problem, matrix: torch.Tensor, vectors: torch.Tensor, damping: float = DAMPING) -> torch.Tensor:
    return torch.linalg.solve(matrix + damping * torch.eye(len(matrix), dtype=DOUBLE), vectors.T).T


@pytest.mark.parametrize("make", [mlp, conv])
def test_all_rows_invert_the_ggn_exactly(make) -> None:
    problem = make()
    solver = Dual(GGN(), damping=DAMPING, rows=None).fit(problem.objective())
    vectors = torch.randn(4, len(problem.theta), dtype=DOUBLE)
    solution = solver.solve(vectors)
    close(solution.x, truth(problem, problem.ggn(), vectors), rtol=1e-8, atol=1e-8)
    assert solution.report.converged


@pytest.mark.parametrize("curvature", [GGN(), Fisher(2, seed=1), EmpiricalFisher()])
def test_every_kind_of_rows_is_inverted_as_its_dense_matrix_is(curvature) -> None:
    problem = mlp()
    objective = problem.objective()
    solver = Dual(curvature, damping=DAMPING, rows=None).fit(objective)
    vectors = torch.randn(3, objective.p, dtype=DOUBLE)
    close(solver.solve(vectors).x, truth(problem, curvature.of(objective).dense(), vectors), rtol=1e-8, atol=1e-8)


def test_a_penalty_that_differs_between_parameters_is_kept() -> None:
    problem = mlp()
    objective = problem.objective(l2={"*.weight": 0.05, "*.bias": 0.0, "0.weight": 0.2})
    ggn = problem.ggn() - problem.l2 * torch.eye(objective.p, dtype=DOUBLE) + torch.diag(objective.l2)
    vectors = torch.randn(3, objective.p, dtype=DOUBLE)
    solver = Dual(GGN(), damping=DAMPING, rows=None).fit(objective)
    close(solver.solve(vectors).x, truth(problem, ggn, vectors), rtol=1e-8, atol=1e-8)


def test_pairs_from_factors_are_products_with_solutions() -> None:
    problem = mlp()
    objective = problem.objective(l2={"*.weight": 0.05, "*.bias": 0.01}, batch_size=7)
    solver = Dual(GGN(), damping=DAMPING, rows=30).fit(objective)
    function = objective.engine.function
    queries = function.each(objective.params, problem.queries)
    train = function.each(objective.params, (problem.x, problem.y))
    solved = solver.solve(queries.materialize()).x
    close(solver.scorer(queries)(train), solved @ train.materialize().T, rtol=1e-8, atol=1e-10)


def test_attribution_by_pairs_equals_attribution_by_solving(monkeypatch) -> None:
    problem = mlp()
    influence = uw.Influence(problem.objective(weights=torch.rand(problem.n)), Dual(GGN(), damping=DAMPING, rows=None))
    results = []
    for pairs in (True, False):
        monkeypatch.setattr("upweight.quantities.scoring.pays", lambda *_, pairs=pairs: pairs)
        results.append(influence.attribute(problem.queries, measurement="margin", train=[3, 1, 8]).scores)
    close(*results, rtol=1e-8)


def test_self_influence_by_factors_equals_solving_for_every_example() -> None:
    problem = mlp()
    objective = problem.objective(l2={"*.weight": 0.05, "*.bias": 0.01}, weights=torch.rand(problem.n) + 0.5)
    influence = uw.Influence(objective, Dual(GGN(), damping=DAMPING, rows=30))
    grads = objective.engine.function.each(objective.params, (problem.x, problem.y)).materialize()
    expected = objective.weights * (grads * influence.solver.solve(grads).x).sum(1) / problem.n
    found = influence.self_influence().scores
    close(found, expected, rtol=1e-8)


@pytest.mark.parametrize("memory", [2**31, 15_000])
def test_blocks_of_rows_change_nothing(memory: int) -> None:
    problem = mlp()
    solver = Dual(GGN(), damping=DAMPING, rows=20, memory=memory).fit(problem.objective(batch_size=6))
    whole = Dual(GGN(), damping=DAMPING, rows=20).fit(problem.objective())
    assert solver.dual.keeps == (memory == 2**31)
    vectors = torch.randn(3, len(problem.theta), dtype=DOUBLE)
    close(solver.solve(vectors).x, whole.solve(vectors).x, rtol=1e-8, atol=1e-10)
    close(solver.gram, whole.gram, rtol=1e-8, atol=1e-12)


def test_another_damping_repeats_no_fit(monkeypatch) -> None:
    problem = mlp()
    objective = problem.objective()
    solver = Dual(GGN(), damping=DAMPING, rows=None).fit(objective)
    vectors = torch.randn(2, objective.p, dtype=DOUBLE)
    solver.solve(vectors)
    monkeypatch.setattr("upweight.curvature.rows.Rows.factors", lambda *_, **__: pytest.fail("rows were made again"))
    close(solver.with_damping(0.5).solve(vectors).x, truth(problem, problem.ggn(), vectors, 0.5), rtol=1e-8, atol=1e-9)


def test_truncated_rows_precondition_the_whole_ggn() -> None:
    problem = mlp()
    objective = problem.objective(l2=0.0)
    vectors = torch.randn(1, objective.p, dtype=DOUBLE)
    plain = CG(GGN(), damping=1e-4, tolerance=1e-8).fit(objective).solve(vectors)
    helped = (
        CG(GGN(), damping=1e-4, tolerance=1e-8, preconditioner=Dual(GGN(), damping=1e-4, rows=40))
        .fit(objective)
        .solve(vectors)
    )
    assert helped.report.iterations < plain.report.iterations / 2
    close(helped.x, plain.x, rtol=1e-5, atol=1e-5)


def test_bad_input_is_refused_with_what_would_fit(unchecked: None) -> None:
    objective = mlp().objective()
    with pytest.raises(InputError, match=r"memory: 60 rows need .* up to \d+ rows fit"):
        Dual(GGN(), damping=DAMPING, rows=None, memory=10_000).fit(objective)
    with pytest.raises(InputError, match="give damping > 0"):
        Dual(GGN(), damping=0.0, rows=5).fit(mlp().objective(l2=0.0)).solve(torch.randn(1, objective.p, dtype=DOUBLE))
    with pytest.raises(InputError, match=r"curvature: give curvature.GGN\(\), Fisher\(\) or .* got Hessian"):
        Dual(uw.curvature.Hessian(), damping=DAMPING).fit(objective)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rows: give a whole number of at least 1"):
        Dual(rows=0).fit(objective)


def test_one_training_example_whose_gradient_vanishes_does_no_harm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(DOUBLE)
    x = torch.randn(6, 3, dtype=DOUBLE)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, torch.tensor([0, 1] * 3)), weights=[0.0, *[1.0] * 5])
    scores = (
        uw.Influence(objective, Dual(EmpiricalFisher(), damping=0.1)).attribute((x, torch.tensor([0, 1] * 3))).scores
    )
    assert torch.isfinite(scores).all()
    assert not scores[:, 0].any()
