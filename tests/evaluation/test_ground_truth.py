"""Ground truths of retraining: their models by hand, the protocol beside every score."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import Problem, close, convex, with_parameters
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.evaluation import LDS, GroundTruth, Protocol, Training, ground_truth


def descent(problem: Problem, weights: Tensor, seed: int) -> nn.Module:
    """Two epochs of single steps, by the weighted loss of three examples each, in an order that the seed gives."""
    generator = torch.Generator().manual_seed(seed)
    theta = 0.1 * torch.randn(len(problem.theta), generator=generator, dtype=torch.float64)
    for _ in range(2):
        for batch in torch.randperm(problem.n, generator=generator).split(3):
            counts = torch.zeros(problem.n, dtype=torch.float64)
            counts[batch] = weights[batch].double() / len(batch)
            theta = theta.detach().requires_grad_()
            (slope,) = torch.autograd.grad(problem.risk(theta, counts), theta)
            theta = theta - 0.1 * slope
    return with_parameters(problem.model, theta.detach())


def optimum(indices: Tensor, seed: int) -> nn.Module:
    problem = convex("softmax")
    counts = torch.zeros(problem.n, dtype=torch.float64)
    counts[indices] = 1 / len(indices)
    return with_parameters(problem.model, problem.optimum(counts) + 1e-3 * seed)


def test_averaged_seeds_are_the_losses_of_models_trained_on_the_subsets() -> None:
    problem = convex("softmax")
    truth = ground_truth(problem.objective(), Training(optimum, seeds=(0, 1)), problem.queries, subsets=4, kept=0.25)
    assert truth.subsets.shape == (4, 6)
    for number, subset in enumerate(truth.subsets):
        for seed in (0, 1):
            model = optimum(subset, seed)
            theta = torch.cat([value.flatten() for value in model.parameters()]).detach()
            close(truth.outcomes[number, seed], problem.query_losses(theta))
    assert truth.protocol.name == "averaged seeds"
    assert (truth.protocol.kept, truth.protocol.seeds, truth.protocol.fixed_order) == (0.25, 2, False)


def test_the_same_run_has_the_batches_that_it_had() -> None:
    problem = convex("softmax")
    model = descent(problem, torch.ones(problem.n), 5)
    objective = replace(problem, model=model).objective()
    truth = ground_truth(
        objective,
        Training(lambda weights, seed: descent(problem, weights, seed), seeds=(5,)),
        problem.queries,
        protocol="same run",
        subsets=3,
    )
    assert truth.protocol.fixed_order
    for subset, outcome in zip(truth.subsets, truth.outcomes, strict=True):
        weights = torch.zeros(problem.n)
        weights[subset] = 1
        theta = torch.cat([value.flatten() for value in descent(problem, weights, 5).parameters()]).detach()
        close(outcome[0], problem.query_losses(theta))


def test_a_run_that_is_not_the_model_s_is_refused_with_the_difference() -> None:
    problem = convex("softmax")
    with pytest.raises(InputError, match=r"every weight 1 it gives another model than the objective's, .* = [\d.]+"):
        ground_truth(
            problem.objective(),
            lambda weights, seed: descent(problem, weights, seed),
            problem.queries,
            protocol="same run",
        )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "mean"}, "protocol: one of 'averaged seeds', 'same run'"),
        ({"protocol": "same run", "train": Training(optimum, seeds=(0, 1))}, "has one seed"),
        ({"protocol": "same run", "train": lambda indices, seed: convex("softmax").x[indices]}, "let it take them"),
        ({"subsets": 2}, "subsets"),
        ({"kept": 0}, "kept"),
        ({"train": 3}, "train"),
    ],
)
def test_impossible_arguments_are_named(options: dict[str, Any], words: str) -> None:
    problem = convex("softmax")
    arguments = {"train": optimum, "queries": problem.queries, **options}
    with pytest.raises(InputError, match=f"(?i){words}"):
        ground_truth(problem.objective(), **arguments)


def truth_and_scores() -> tuple[GroundTruth, Attribution]:
    problem = convex("softmax")
    objective = problem.objective()
    truth = ground_truth(objective, optimum, problem.queries, subsets=8)
    return truth, uw.Influence(objective, uw.inverse.Dense()).attribute(problem.queries)


def test_the_protocol_stands_beside_every_score() -> None:
    truth, scores = truth_and_scores()
    result = truth.lds(scores)
    assert result.protocol == Protocol("averaged seeds", 0.5, 1, 1.0)
    assert "protocol: averaged seeds (0.5 kept, seeds per subset: 1, scores expanded at weight 1)" in repr(result)
    assert "averaged seeds (0.5 kept" in result.figure().axes[0].get_xlabel()
    assert "averaged seeds" in repr(truth)
    elsewhere = replace(scores, facts={**scores.facts, "mean weight": 0.5})
    assert truth.lds(elsewhere).protocol.expansion == 0.5
    assert "expanded" not in str(truth.lds(scores.scores).protocol)
    metric = truth.metric()
    metric.update(scores, truth.outcomes)
    with pytest.raises(InputError, match=r"scores: expanded at mean weight 0\.5, but 1 in the updates before"):
        metric.update(elsewhere, truth.outcomes)


def test_the_protocol_is_stored_and_metrics_of_two_are_not_merged() -> None:
    truth, scores = truth_and_scores()
    metric = truth.metric()
    metric.update(scores, truth.outcomes)
    buffer = io.BytesIO()
    torch.save(metric.state_dict(), buffer)
    buffer.seek(0)
    again = truth.metric()
    again.load_state_dict(torch.load(buffer))
    assert again.compute().protocol == metric.compute().protocol
    with pytest.raises(InputError, match="other same_run"):
        LDS(truth.subsets, protocol="same run").merge(metric)
