"""The factors of K-FAC are what the paper says, and each example counts in them for its weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from eigenbases import objective_of, positions
from gradients.layers import LAYERS
from problems import DOUBLE, close, mlp
from upweight.curvature import GGN, EmpiricalFisher, Fisher, kronecker
from upweight.curvature.kronecker import kronecker_factors
from upweight.inverse import KFAC
from upweight.losses import CrossEntropy, SquaredError


def second_moment(rows: Tensor) -> Tensor:
    return rows.T @ rows


@pytest.mark.parametrize("bias", [True, False])
def test_kfac_of_a_linear_layer_is_what_the_paper_says(bias: bool) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 4, bias=bias), nn.Tanh(), nn.Linear(4, 2, bias=bias)).double()
    x, y = torch.randn(9, 3, dtype=DOUBLE), torch.randn(9, 2, dtype=DOUBLE)
    found = KFAC(EmpiricalFisher(), damping=1.0).fit(uw.Objective(model, SquaredError(), (x, y))).operator.dense()
    hidden = model[1](model[0](x))
    g2 = model[2](hidden) - y
    g1 = (g2 @ model[2].weight) * (1 - hidden**2)
    at = 0
    for a, g in ((x, g1), (hidden, g2)):
        c = a.shape[1]
        inputs = torch.cat([a, torch.ones(9, 1, dtype=DOUBLE)], 1) if bias else a
        expected = torch.kron(g.T @ g / 9, inputs.T @ inputs / 9).reshape(g.shape[1], -1, g.shape[1], inputs.shape[1])
        weights = expected[:, :c, :, :c].reshape(g.shape[1] * c, -1)  # θ holds the weight first, then the bias
        size = len(weights)
        close(found[at : at + size, at : at + size], weights)
        if bias:
            corner = slice(at + size, at + size + g.shape[1])
            close(found[corner, corner], expected[:, c, :, c])
            close(found[at : at + size, corner], expected[:, :c, :, c].reshape(size, -1))
        at += size + bias * g.shape[1]


def test_expand_and_reduce_are_what_the_paper_says() -> None:
    model, x, y = positions()
    hidden = nn.Sequential(model, nn.Tanh(), nn.Linear(4, 4).double().requires_grad_(False))
    leaf = hidden[0](x).detach().requires_grad_()
    loss = nn.functional.cross_entropy(hidden[2](torch.tanh(leaf)).flatten(0, 1), y.flatten(), reduction="sum")
    (g,) = torch.autograd.grad(loss, leaf)
    kept = y != -100
    objective = uw.Objective(hidden, CrossEntropy(), (x, y))
    rows = EmpiricalFisher().rows(objective)
    (expand,) = kronecker_factors(rows, "expand").values()
    close(expand.left, second_moment(g[kept]) / 8)
    close(expand.right, second_moment(x[kept]) / kept.sum())
    (reduce,) = kronecker_factors(rows, "reduce").values()
    mean = (x * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True)
    close(reduce.left, second_moment(g.sum(1)) / 8)
    close(reduce.right, second_moment(mean) / 8)


def test_all_positions_count_where_it_is_asked_for() -> None:
    """By the definition: positions that a ReLU switches off, or the loss ignores, are part of the mean."""
    model, x, y = positions()
    objective = uw.Objective(model, CrossEntropy(), (x, y))
    leaf = model(x).detach().requires_grad_()
    loss = nn.functional.cross_entropy(leaf.flatten(0, 1), y.flatten(), reduction="sum")
    (g,) = torch.autograd.grad(loss, leaf)
    rows = EmpiricalFisher().rows(objective)
    (expand,) = kronecker_factors(rows, "expand", "all").values()
    close(expand.left, second_moment(g.flatten(0, 1)) / 8)
    close(expand.right, second_moment(x.flatten(0, 1)) / 40)
    (reduce,) = kronecker_factors(rows, "reduce", "all").values()
    close(reduce.right, second_moment(x.mean(1)) / 8)


def test_padding_that_the_loss_ignores_changes_nothing() -> None:
    example = LAYERS["language model"]()
    padded_x = torch.cat([example.x, torch.zeros(len(example.x), 3, dtype=torch.long)], 1)
    padded_y = torch.cat([example.y, torch.full((len(example.y), 3), -100)], 1)
    plain = kronecker_factors(EmpiricalFisher().rows(objective_of(example)))
    padded = kronecker_factors(EmpiricalFisher().rows(objective_of(replace(example, x=padded_x, y=padded_y))))
    for shape, factors in plain.items():
        close(torch.kron(*wide(factors)), torch.kron(*wide(padded[shape])))


def wide(factors: kronecker.Kronecker) -> list[Tensor]:
    return [torch.diag(side) if side.dim() == 1 else side for side in (factors.left, factors.right)]


def test_inputs_count_once_an_example_however_many_rows_it_has() -> None:
    objective = mlp().objective()
    a = torch.cat([mlp().x, torch.ones(objective.n, 1, dtype=DOUBLE)], 1)
    for curvature in (EmpiricalFisher(), Fisher(samples=3), GGN()):
        first = next(iter(kronecker_factors(curvature.rows(objective)).values()))
        close(first.right, a.T @ a / objective.n)


def test_an_example_of_weight_two_is_two_examples() -> None:
    problem = mlp()
    weights = torch.ones(problem.n, dtype=DOUBLE)
    weights[4] = 2
    weighted = problem.objective(weights=weights)
    doubled = problem.objective(data=tuple(torch.cat([v, v[4:5]]) for v in (problem.x, problem.y)))
    first, second = (kronecker_factors(EmpiricalFisher().rows(o)) for o in (weighted, doubled))
    for shape, factors in first.items():
        close(factors.left * weighted.n, second[shape].left * doubled.n)
        close(factors.right, second[shape].right)


def test_uniform_predictions_have_a_curvature() -> None:
    objective = replace(mlp(), model=uniform()).objective(l2=0.0)
    for curvature in (Fisher(), GGN()):
        *_, last = kronecker_factors(curvature.rows(objective)).values()
        assert float(last.left.trace()) > 0.1


def uniform() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    for value in model[2].parameters():
        nn.init.zeros_(value)
    return model
