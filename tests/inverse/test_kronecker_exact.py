"""K-FAC and EK-FAC are exact where the approximation is, and elsewhere EK-FAC is the nearer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from eigenbases import BOTH, block_diagonal, one_by_one, positions, rotated
from problems import DOUBLE, Problem, close, conv, mlp, squared
from upweight.curvature import GGN, EmpiricalFisher, Fisher
from upweight.inverse import EKFAC, KFAC
from upweight.losses import CrossEntropy, SquaredError


@pytest.mark.parametrize("inputs", ["active", "all"])
@pytest.mark.parametrize("approximation", ["expand", "reduce"])
def test_ekfac_has_the_diagonal_that_is_best_in_its_own_basis(approximation: Any, inputs: Any) -> None:
    objective = uw.Objective(positions()[0], CrossEntropy(), positions()[1:])
    operator = (
        EKFAC(EmpiricalFisher(), damping=0.1, penalized=True, approximation=approximation, inputs=inputs)
        .fit(objective)
        .operator
    )
    rows = one_by_one(objective)
    wanted = (rotated(operator, rows) ** 2).sum(0)
    close(torch.cat([value.flatten() for value in operator.values]), wanted)


def deep_linear() -> Problem:
    """Two layers without a nonlinearity, squared error, and one example (twice)."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()
    x, y = torch.randn(1, 3, dtype=DOUBLE).repeat(2, 1), torch.randn(1, dtype=DOUBLE).repeat(2)
    return Problem(model, squared, x, y, x, y, 0.0)


@pytest.mark.parametrize("inverse", [EKFAC(GGN(), damping=0.3), KFAC(GGN(), damping=0.3, damping_rule="eigenvalue")])
def test_exact_for_one_example_of_a_deep_linear_net(inverse: EKFAC | KFAC) -> None:
    problem = deep_linear()
    solver = inverse.fit(problem.objective())
    blocks = block_diagonal(solver.operator, problem.ggn())
    close(solver.operator.dense(), blocks)
    vectors = torch.randn(3, len(blocks), dtype=DOUBLE)
    close(solver.solve(vectors).x, vectors @ torch.linalg.inv(blocks + 0.3 * torch.eye(len(blocks), dtype=DOUBLE)))


def independent() -> tuple[uw.Objective, Tensor]:
    """A linear layer at 0 on all pairs of 4 inputs and 5 targets: gradients −y, independent of the inputs."""
    torch.manual_seed(6)
    x, y = torch.randn(4, 3, dtype=DOUBLE), torch.randn(5, 2, dtype=DOUBLE)
    model = nn.Linear(3, 2).double()
    for value in model.parameters():
        nn.init.zeros_(value)
    objective = uw.Objective(model, SquaredError(), (x.repeat_interleave(5, 0), y.repeat(4, 1)), l2=0.05)
    return objective, EmpiricalFisher().of(objective).dense()


@pytest.mark.parametrize(
    "inverse", [EKFAC(EmpiricalFisher(), damping=0.2), KFAC(EmpiricalFisher(), damping=0.2, damping_rule="eigenvalue")]
)
def test_exact_for_a_layer_with_independent_inputs_and_gradients(inverse: EKFAC | KFAC) -> None:
    objective, fisher = independent()
    vectors = torch.randn(3, objective.p, dtype=DOUBLE)
    solver = inverse.fit(objective)
    close(solver.operator.dense(), fisher)
    close(solver.solve(vectors).x, vectors @ torch.linalg.inv(fisher + 0.2 * torch.eye(objective.p, dtype=DOUBLE)))


@pytest.mark.parametrize("curvature", [GGN(), EmpiricalFisher(), Fisher(samples=2, seed=3)])
@pytest.mark.parametrize("problem", [mlp, conv])
def test_ekfac_is_nearer_than_kfac_and_has_the_trace(problem: Any, curvature: Any) -> None:
    objective = problem().objective(l2=0.0)
    matrix = curvature.of(objective).dense()
    ekfac, kfac = (inverse(curvature, damping=0.1).fit(objective).operator for inverse in BOTH)
    blocks = block_diagonal(ekfac, matrix)
    assert (ekfac.dense() - blocks).norm() <= (kfac.dense() - blocks).norm() * (1 + 1e-12)
    close(ekfac.trace(), matrix.trace())
    close(ekfac.trace(), ekfac.dense().trace())
    close(kfac.trace(), kfac.dense().trace())
