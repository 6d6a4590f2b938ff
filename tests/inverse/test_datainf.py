"""DataInf is the mean of one-example inverses, by parameter block, and exact where all examples agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close, conv, convex, mlp
from upweight.curvature import EmpiricalFisher, Fisher, Matrix
from upweight.errors import InputError
from upweight.inverse import DataInf, MeanEigenvalue
from upweight.losses import CrossEntropy


def blocks(objective: uw.Objective) -> list[Tensor]:
    """Positions in θ of each layer's weight with its bias."""
    at, start = {}, 0
    for name, size in zip(objective.layout.names, objective.layout.sizes, strict=True):
        at.setdefault(name.rpartition(".")[0], []).append(torch.arange(start, start + size))
        start += size
    return [torch.cat(parts) for parts in at.values()]


def by_definition(objective: uw.Objective, gradients: Tensor, damping: float, vectors: Tensor) -> Tensor:
    """The mean of dense inverses, layer by layer, one example after the other."""
    x = torch.zeros_like(vectors)
    for block in blocks(objective):
        shift = torch.diag(objective.l2[block] + damping)
        own = [torch.linalg.inv(torch.outer(g, g) + shift) for g in gradients[:, block]]
        x[:, block] = vectors[:, block] @ torch.stack(own).mean(0)
    return x


@pytest.mark.parametrize("problem", [mlp, conv])
@pytest.mark.parametrize("l2", [0.0, {"0.*": 0.3, "*.bias": 0.05}], ids=["no l2", "l2 by parameter"])
def test_it_is_the_mean_of_the_examples_inverses(problem: Any, l2: Any) -> None:
    objective, vectors = problem().objective(l2=l2), problem().query_gradients()
    x = DataInf(damping=0.04).fit(objective).solve(vectors).x
    close(x, by_definition(objective, problem().gradients(), 0.04, vectors))


def test_weights_count() -> None:
    problem = mlp()
    weights = torch.linspace(0, 2, problem.n, dtype=DOUBLE)
    objective = problem.objective(weights=weights)
    vectors = problem.query_gradients()
    expected = by_definition(objective, problem.gradients() * weights.sqrt()[:, None], 0.04, vectors)
    close(DataInf(damping=0.04).fit(objective).solve(vectors).x, expected)


def test_exact_where_the_data_are_one_example() -> None:
    problem = mlp()
    same = replace(problem, x=problem.x[:1].repeat(2, 1), y=problem.y[:1].repeat(2))
    objective, vectors = same.objective(l2=0.1), problem.query_gradients()
    matrix = EmpiricalFisher().of(objective).dense() + 0.02 * torch.eye(objective.p, dtype=DOUBLE)
    x = DataInf(damping=0.02).fit(objective).solve(vectors).x
    for block in blocks(objective):
        close(x[:, block], torch.linalg.solve(matrix[block][:, block], vectors[:, block].T).T)


def test_other_rows_and_dampings() -> None:
    objective, vectors = mlp().objective(), mlp().query_gradients()
    solver = DataInf(Fisher(samples=2), damping=MeanEigenvalue(0.5)).fit(objective)
    close(solver.damping, 0.5 * Fisher(samples=2).of(objective).dense().diagonal().mean())
    rows = Fisher(samples=2).rows(objective)
    drawn = rows.factors(torch.arange(len(rows))).materialize() * len(rows) ** 0.5
    close(solver.solve(vectors).x, by_definition(objective, drawn, solver.damping, vectors))
    close(solver.with_damping(0.3).solve(vectors).x, by_definition(objective, drawn, 0.3, vectors))


def test_the_report_promises_nothing() -> None:
    report = DataInf(damping=0.1).fit(mlp().objective()).solve(mlp().query_gradients()).report
    assert str(report) == "DataInf on the empirical Fisher, δ=0.1: residual not measured"
    assert report.converged


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_inverted_is_refused() -> None:
    objective = convex("softmax").objective(l2={"weight": 0.1})
    with pytest.raises(InputError, match=r"damping: one example's matrix is singular.*give damping > 0 \(got 0\)"):
        DataInf(damping=0.0).fit(objective)
    with pytest.raises(InputError, match="singular"):
        DataInf(damping=0.1).fit(objective).with_damping(0.0)
    with pytest.raises(InputError, match=r"inverse\.DataInf: needs an objective"):
        DataInf().fit(Matrix(torch.eye(2)))


class Length(nn.Module):
    """Infinitely steep where its input vanishes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).abs().sqrt()


def test_an_example_with_a_nan_gradient_is_named() -> None:
    x = torch.rand(9, 2, dtype=DOUBLE) + 1
    x[6] = 0
    objective = uw.Objective(Length().double(), CrossEntropy(), (x, torch.arange(9) % 2))
    with pytest.raises(InputError, match=r"NaN or infinite for training example 6, at layer\.weight"):
        DataInf(damping=0.1).fit(objective).solve(torch.ones(1, 4, dtype=DOUBLE))
