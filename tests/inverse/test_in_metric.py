"""Inverses in an optimiser's metric against whole matrices, and against the model in other coordinates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from languages import llama, rows
from problems import DOUBLE, close, mlp
from upweight.curvature import GGN, EmpiricalFisher
from upweight.curvature.in_metric import Scaling
from upweight.errors import InputError
from upweight.inverse import CG, EKFAC, KFAC, Arnoldi, Dense, Diagonal, InMetric, Nystrom, StepMetric
from upweight.inverse.step_metric import vector

pytestmark = pytest.mark.filterwarnings("ignore:θ is not at an optimum")
DELTA = 0.1


def metric_of(model: nn.Module, spread: float = 3.0) -> dict[str, Tensor]:
    """Numbers over several powers of ten."""
    generator = torch.Generator().manual_seed(1)
    named = {
        name: torch.rand(value.shape, generator=generator, dtype=DOUBLE) for name, value in model.named_parameters()
    }
    return {name: 10 ** (spread * (value - 1)) for name, value in named.items()}


@pytest.mark.parametrize(
    "inner",
    [
        Dense(GGN(), damping=DELTA),
        Dense(GGN(), damping=DELTA, method="eigen"),
        CG(GGN(), damping=DELTA),
        CG(GGN(), damping=DELTA, preconditioner=EKFAC(EmpiricalFisher())),
        CG(GGN(), damping=DELTA, preconditioner=Diagonal(EmpiricalFisher(), damping=DELTA)),
    ],
    ids=repr,
)
def test_by_products_it_is_the_inverse_with_the_metric_for_damping(inner: Any) -> None:
    problem = mlp(n=12)
    objective, metric = problem.objective(), metric_of(problem.model)
    flat = objective.layout.flatten(metric)
    whole = GGN().of(objective).dense() + DELTA * torch.diag(flat)
    vectors = problem.query_gradients()
    found = InMetric(inner, metric).fit(objective).solve(vectors)
    close(found.x, torch.linalg.solve(whole, vectors.T).T, rtol=1e-6, atol=1e-9)
    assert "in the optimiser's metric" in found.report.solver


@pytest.mark.parametrize("kind", [Nystrom, Arnoldi])
def test_low_rank_of_all_directions_is_the_same(kind: Any) -> None:
    problem = mlp(n=12)
    objective, metric = problem.objective(), metric_of(problem.model, 1.0)
    vectors = problem.query_gradients()
    inner = kind(objective.p, GGN(), damping=DELTA, complement="damp")
    whole = GGN().of(objective).dense() + DELTA * torch.diag(objective.layout.flatten(metric))
    close(InMetric(inner, metric).fit(objective).solve(vectors).x, torch.linalg.solve(whole, vectors.T).T, rtol=1e-5)


def test_the_diagonal_is_that_of_the_curvature_with_the_metric() -> None:
    problem = mlp(n=12)
    objective, metric = problem.objective(), metric_of(problem.model)
    scaling = Scaling.of(objective, vector(metric, objective))
    shift = 1 / scaling.vector**2  # the metric as products of gradients by layers have it
    vectors = problem.query_gradients()
    diagonal = EmpiricalFisher().of(objective).dense().diagonal()
    found = InMetric(Diagonal(EmpiricalFisher(), damping=DELTA), metric).fit(objective).solve(vectors)
    close(found.x, vectors / (diagonal + DELTA * shift))


class Scaled(nn.Module):
    """Two layers whose weights are W = (l ⊗ r) ∘ W′, as a model in W′."""

    def __init__(self, sides: list[tuple[Tensor, Tensor]]):
        super().__init__()
        self.sides = sides
        self.layers = nn.ModuleList(nn.Linear(len(right), len(left), bias=False) for left, right in sides)

    def forward(self, x: Tensor) -> Tensor:
        for number, (layer, (left, right)) in enumerate(zip(self.layers, self.sides, strict=True)):
            x = left * layer(right * (torch.tanh(x) if number else x))
        return x.mean(1) if x.dim() == 3 else x


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("kind", [EKFAC, KFAC])
def test_by_layers_it_is_that_of_the_model_in_other_coordinates(kind: Any, length: int) -> None:
    torch.manual_seed(0)
    sides = [
        (torch.rand(rows).double() + 0.1, torch.rand(columns).double() + 0.1) for rows, columns in ((5, 4), (3, 5))
    ]
    ones = [(torch.ones_like(left), torch.ones_like(right)) for left, right in sides]
    plain, scaled = Scaled(ones).double(), Scaled(sides).double()
    for mine, its, (left, right) in zip(plain.layers, scaled.layers, sides, strict=True):
        its.weight.data = mine.weight.data / torch.outer(left, right)  # type: ignore[operator]
    x = torch.randn(30, length, 4).double() if length > 1 else torch.randn(30, 4).double()
    y = torch.randint(3, (30,))
    metric = {f"layers.{k}.weight": torch.outer(*pair) ** -2.0 for k, pair in enumerate(sides)}
    inner = kind(EmpiricalFisher(), damping=1e-3)
    objective, other = (uw.Objective(model, uw.losses.CrossEntropy(), (x, y)) for model in (plain, scaled))
    close(objective.losses(), other.losses())
    queries = (x[:3], y[:3])
    found = uw.Influence(objective, InMetric(inner, metric))
    expected = uw.Influence(other, inner)
    close(found.attribute(queries).scores, expected.attribute(queries).scores, rtol=1e-6, atol=1e-12)
    close(found.self_influence().scores, expected.self_influence().scores, rtol=1e-6, atol=1e-12)
    assert "0.0% off" in str(found.attribute(queries).report)
    moved = found.solver.with_damping(0.5).damping
    assert moved == 0.5


def test_pairs_by_factors_are_those_of_solved_queries_in_one_metric() -> None:
    problem = mlp(n=20)
    objective, metric = problem.objective(l2=0.01), metric_of(problem.model)
    for inner in (EKFAC(EmpiricalFisher(), damping=DELTA), KFAC(EmpiricalFisher(), damping=DELTA)):
        solver: Any = InMetric(inner, metric).fit(objective)
        rows = torch.cat([part for _, part in objective.example_gradients()])
        _, factors = next(iter(objective.engine.each(None)))
        close(solver.scorer(factors)(factors), solver.solve(rows).x @ rows.T, rtol=1e-8, atol=1e-10)
        close(solver.quadratic(factors), (solver.solve(rows).x * rows).sum(1), rtol=1e-8, atol=1e-10)
        close(solver.precondition(rows), solver.solve(rows).x)


def test_large_damping_leaves_the_metric_of_the_steps_alone_and_none_the_curvature() -> None:
    problem = mlp(n=12)
    objective, metric = problem.objective(), metric_of(problem.model)
    vectors = problem.query_gradients()
    far = 1e12 * InMetric(Dense(GGN(), damping=1e12), metric).fit(objective).solve(vectors).x
    close(far, StepMetric(metric).fit(objective).solve(vectors).x, rtol=1e-5)
    near = InMetric(Dense(GGN(), damping=0.0), metric).fit(objective).solve(vectors).x
    close(near, Dense(GGN(), damping=0.0).fit(objective).solve(vectors).x, rtol=1e-6)


def test_embeddings_and_norms_keep_their_own_metric_and_products_an_outer_one() -> None:
    model = llama().double()
    objective = uw.from_transformers(model, rows())
    metric = metric_of(model)
    scaling = Scaling.of(objective, vector(metric, objective))
    named = objective.layout.unflatten(scaling.vector[None])
    for name, value in named.items():
        own = metric[name].rsqrt().reshape(value[0].shape)
        if "proj" in name or "lm_head" in name:
            root = value[0].reciprocal() ** 4  # P² as it is taken: row and column sums are kept
            close(root.sum(0), (metric[name] ** 2).sum(0))
            close(root.sum(1), (metric[name] ** 2).sum(1))
            assert int(torch.linalg.matrix_rank(value[0])) == 1
        else:
            close(value[0], own)
    assert 0.1 < scaling.error < 1
    for _, gradients in objective.engine.each(torch.arange(4)):
        close(scaling.gradients(gradients).materialize(), gradients.materialize() * scaling.vector)


@pytest.mark.usefixtures("unchecked")
def test_what_has_no_form_in_a_metric_is_refused_by_name() -> None:
    problem = mlp(n=12)
    objective, metric = problem.objective(), metric_of(problem.model)
    wrong: Any
    with pytest.raises(InputError, match=r"inner: Dual has no form in a metric; give one of CG, Dense"):
        InMetric(uw.inverse.Dual(), metric)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"metric: give numbers by parameter name"):
        InMetric(Dense(), 3)  # type: ignore[arg-type]
    helped = CG(GGN(), damping=DELTA, preconditioner=EKFAC().fit(objective))
    with pytest.raises(InputError, match=r"its preconditioner EigenSolver has no form in a metric"):
        InMetric(helped, metric).fit(objective)
    for wrong, words in (({}, "lacks the parameter"), ({name: -value for name, value in metric.items()}, "not > 0")):
        with pytest.raises(InputError, match=words):
            InMetric(EKFAC(), wrong).fit(objective)


@pytest.mark.parametrize("fitted", [False, True])
def test_steps_damped_without_the_metric_are_refused(fitted: bool) -> None:
    problem = mlp(n=12)
    objective = problem.objective()
    inverse: Any = InMetric(Dense(GGN(), damping=DELTA), metric_of(problem.model))
    influence = uw.Influence(objective, inverse.fit(objective) if fitted else inverse)
    queries = (problem.x[:2], problem.y[:2])
    with pytest.raises(InputError, match=r"leverage_corrected: .*InMetric damps by δP"):
        influence.attribute(queries, leverage_corrected=True)
    with pytest.raises(InputError, match=r"leverage_corrected: .*InMetric damps by δP"):
        influence.self_influence(leverage_corrected=True)
    with pytest.raises(InputError, match=r"order: .*InMetric damps by δP"):
        influence.group([0, 1], queries, order="newton")
    assert influence.group([0, 1], queries).scores.isfinite().all()
