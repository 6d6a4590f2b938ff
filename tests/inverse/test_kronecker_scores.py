"""What K-FAC and EK-FAC are asked for: scores by factors, the same whatever the batches, and help for CG."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenbases import BOTH, SLOW, objective_of
from gradients.layers import LAYERS
from problems import close, conv, mlp
from upweight.curvature import GGN, EmpiricalFisher
from upweight.gradients import Block, Shape
from upweight.gradients.terms import Direct
from upweight.inverse import CG, EKFAC, KFAC

FORMS = [
    *("mlp", "attention, batch first", "language model", "tied weights", "plain parameters", "Conv1D of GPT-2"),
    *("a weight used both ways", "embedding bag, mean", "conv2d", "conv2d, groups", "PReLU, which has no rule"),
]


@SLOW
@pytest.mark.parametrize("inverse", BOTH)
@pytest.mark.parametrize("name", FORMS)
def test_scores_by_factors_are_those_of_the_solution(name: str, inverse: type[EKFAC | KFAC]) -> None:
    objective = objective_of(LAYERS[name](), l2=0.01)
    solver = inverse(EmpiricalFisher(), damping=0.1).fit(objective)
    batch = objective.data.take(list(range(objective.n)))
    for compacted in (True, False):
        train = objective.engine.function.each(objective.params, batch, compacted=compacted)
        scores = solver.scorer(train.take(slice(0, 3)))(train)
        gradients = train.materialize()
        close(scores, solver.solve(gradients[:3]).x @ gradients.T, atol=1e-9)


@settings(max_examples=5, deadline=None)
@given(size=st.integers(1, 30), inverse=st.sampled_from(BOTH), problem=st.sampled_from([mlp, conv]))
def test_the_batch_size_changes_nothing(size: int, inverse: Any, problem: Any) -> None:
    vectors = problem().query_gradients()
    whole, cut = (inverse(damping=0.1).fit(problem().objective(batch_size=b)).solve(vectors).x for b in (None, size))
    close(cut, whole, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("inverse", BOTH)
def test_queries_of_another_form_are_scored_all_the_same(inverse: Any) -> None:
    problem = mlp()
    solver = inverse(damping=0.1).fit(problem.objective())
    factors = problem.objective().engine.function.each(problem.theta, (problem.x, problem.y))
    named = problem.objective().layout.unflatten(factors.materialize())
    apart = replace(
        factors,
        blocks=tuple(
            Block(Shape(name, None, len(v[0]), v[0].numel() // len(v[0])), (Direct(v.reshape(len(v), len(v[0]), -1)),))
            for name, v in named.items()
        ),
    )
    expected = solver.solve(factors.materialize()).x @ factors.materialize().T
    close(solver.scorer(apart)(factors), expected)
    close(solver.scorer(factors)(apart), expected)


@pytest.mark.parametrize("inverse", BOTH)
def test_they_precondition_cg(inverse: Any) -> None:
    problem = mlp()
    scaled = problem.objective(l2=1e-4, data=(problem.x * torch.tensor([1.0, 30.0, 0.03]), problem.y))
    vectors = problem.query_gradients()
    plain, helped = (
        CG(GGN(), damping=1e-3, preconditioner=preconditioner).fit(scaled).solve(vectors[:1])
        for preconditioner in (None, inverse(GGN()))
    )
    assert helped.report.converged
    close(helped.x, plain.x, rtol=1e-6, atol=1e-6)
    assert helped.report.iterations <= plain.report.iterations


def test_the_report_says_what_was_inverted_and_promises_nothing() -> None:
    report = KFAC(damping=0.1, approximation="reduce").fit(mlp().objective()).solve(mlp().query_gradients()).report
    assert str(report) == (
        "K-FAC (reduce) of the Fisher (1 sampled target per example), factored damping, δ=0.1: residual not measured"
    )
    assert report.converged


@pytest.mark.parametrize("inverse", BOTH)
@pytest.mark.parametrize("make", [mlp, conv])
def test_self_influence_by_factors_is_that_of_the_solution(inverse: Any, make: Any) -> None:
    problem = make()
    objective = problem.objective()
    solver = inverse(damping=0.05).fit(objective)
    factors = objective.engine.function.each(objective.params, (problem.x, problem.y))
    gradients = factors.materialize()
    close(solver.quadratic(factors), (gradients * solver.solve(gradients).x).sum(1), rtol=1e-8)
