"""Curvature operators: the Hessian and GGN of R, matrix-free, dense, and by finite differences."""

import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, close, conv, convex, mlp
from upweight.curvature import GGN, Hessian, Matrix, mean_eigenvalue
from upweight.errors import InputError


def vectors(problem, k=3):
    return torch.randn(k, len(problem.theta), dtype=DOUBLE)


def test_hessian_products_are_finite_differences_of_the_gradient(trained):
    objective = trained.objective()
    (v,) = vectors(trained, 1)
    step = 1e-5
    slope = (objective.gradient(trained.theta + step * v) - objective.gradient(trained.theta - step * v)) / (2 * step)
    close(Hessian().of(objective).apply(v[None])[0], slope, rtol=1e-6, atol=1e-8)


def test_the_ggn_is_the_hessian_of_canonical_glms(convex):
    close(GGN().of(convex.objective()).dense(), convex.hessian())


@pytest.mark.parametrize("problem", [mlp(), conv()], ids=["mlp", "conv"])
def test_the_ggn_of_a_network_is_positive_semi_definite_and_not_its_hessian(problem):
    objective = problem.objective(l2=0.0)
    ggn, hessian = GGN().of(objective).dense(), Hessian().of(objective).dense()
    assert torch.linalg.eigvalsh(ggn)[0] > -1e-12
    assert (ggn - hessian).norm() > 0.01 * hessian.norm()


@pytest.mark.parametrize("kept", [True, False], ids=["features kept", "features made anew"])
@pytest.mark.parametrize("rows", [1, 7, 4096])
def test_linear_curvature_is_the_same_in_any_blocks(kept, rows, monkeypatch):
    problem = convex("softmax")
    monkeypatch.setattr("upweight.curvature.objective.LINEAR_ROWS", rows)
    objective = problem.objective(batch_size=rows, budget=uw.Budget() if kept else uw.Budget(kept=0))
    assert (objective.engine.linear_factors is not None) == kept
    v = vectors(problem)
    close(Hessian().of(objective).dense(), problem.hessian())
    close(Hessian().of(objective).apply(v), v @ problem.hessian())
    close(objective.inner(v), v @ problem.gradients().T)
    close(Hessian().of(objective).share([2, 5]).apply(v), v @ problem.example_hessians()[[2, 5]].sum(0) / 24)


def test_one_output_is_not_all_zero():
    problem = convex("logistic")
    assert Hessian().of(problem.objective(l2=0.0)).dense().norm() > 0.01
    assert uw.Influence(problem.objective()).attribute(problem.queries).scores.abs().min() > 0


def test_uniform_predictions_keep_their_curvature():
    model = nn.Linear(3, 4).to(DOUBLE)
    for value in model.parameters():
        nn.init.zeros_(value)
    x, y = torch.randn(12, 3, dtype=DOUBLE), torch.arange(12) % 4
    augmented = torch.cat([x, torch.ones(12, 1)], 1)
    middle = torch.eye(4) / 4 - torch.full((4, 4), 1 / 16)
    expected = torch.kron(middle.double(), augmented.T @ augmented / 12)
    actual = GGN().of(uw.Objective(model, uw.losses.CrossEntropy(), (x, y))).dense()
    close(torch.linalg.eigvalsh(actual), torch.linalg.eigvalsh(expected))


def test_the_mean_eigenvalue_is_the_trace_over_p():
    exact = Matrix(torch.diag(torch.arange(1.0, 31.0, dtype=DOUBLE)))
    assert mean_eigenvalue(exact) == pytest.approx(15.5)
    random = torch.randn(200, 200, dtype=DOUBLE)
    estimated = Matrix(random @ random.T / 200)
    truth = float(estimated.matrix.trace()) / 200
    assert mean_eigenvalue(estimated) == pytest.approx(truth, rel=0.1)
    assert mean_eigenvalue(estimated) == mean_eigenvalue(estimated, seed=0)
    assert mean_eigenvalue(estimated) != mean_eigenvalue(estimated, seed=1)


def test_the_ggn_of_a_plain_function_is_refused():
    problem = convex("softmax")
    loss = uw.losses.CrossEntropy()
    objective = problem.objective(loss=uw.losses.Function(lambda model, batch: loss(model, batch)))
    with pytest.raises(InputError, match=r"GGN needs a loss with the split.*curvature.Hessian\(\)"):
        GGN().of(objective)
    close(Hessian().of(objective).dense(), problem.hessian())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("matrix", [torch.ones(2, 3), torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.ones(3)])
def test_a_matrix_must_be_square_and_symmetric(matrix):
    with pytest.raises(InputError, match="must be square and symmetric"):
        Matrix(matrix)


def test_a_matrix_may_be_symmetric_to_rounding_alone():
    nearly = torch.tensor([[1.0, 2.0], [2.0 + 1e-6, 1.0]])
    assert Matrix(nearly).size == 2


@pytest.mark.parametrize("bias", [True, False])
def test_features_that_are_zero_everywhere_keep_their_place_in_the_dense_matrix(bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 9, generator=generator, dtype=torch.float64)
    x[:, [0, 4, 8]] = 0
    model = torch.nn.Linear(9, 3, bias=bias, dtype=torch.float64)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, torch.arange(20) % 3), l2=0.1)
    operator = uw.curvature.Hessian().of(objective)
    identity = torch.eye(objective.p, dtype=torch.float64)
    torch.testing.assert_close(operator.dense(), operator.apply(identity), rtol=1e-12, atol=1e-14)
