"""Influence at another expansion point: the model that training gives at mean weight w̄."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import Problem, close, convex, mlp, with_parameters
from upweight.errors import InputError
from upweight.retraining.by_weights import AtWeight

WEIGHT = 0.5


def training(problem: Problem) -> Callable[[Tensor, int], nn.Module]:
    """To the optimum at any weights."""

    def train(weights: Tensor, seed: int) -> nn.Module:
        return with_parameters(problem.model, problem.optimum(weights.double() / problem.n))

    return train


def steps(weights: Tensor, seed: int) -> Tensor:
    """A short training of the network of `mlp`, by full gradients."""
    problem = mlp()
    theta = problem.theta + 0.1 * torch.randn(len(problem.theta), generator=torch.Generator().manual_seed(seed))
    for _ in range(5):
        theta = theta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(problem.risk(theta, weights.double() / problem.n), theta)
        theta = theta - 0.1 * slope
    return theta.detach()


@pytest.mark.parametrize("name", ["ridge", "logistic", "softmax"])
def test_removal_is_the_derivative_of_the_trained_model_by_a_weight_at_the_mean_weight(name: str) -> None:
    problem = convex(name)
    influence = uw.Influence(problem.objective(), uw.inverse.Dense(), at=uw.expansion(training(problem), weight=WEIGHT))
    found = influence.attribute(problem.queries).scores
    for example in (0, 7):
        moved = []
        for change in (-1e-4, 1e-4):
            weights = torch.full((problem.n,), WEIGHT, dtype=torch.float64)
            weights[example] += change
            moved.append(problem.query_losses(problem.optimum(weights / problem.n)))
        close(found[:, example], -WEIGHT * (moved[1] - moved[0]) / 2e-4, rtol=1e-5, atol=1e-8)


def test_at_weight_one_everything_is_as_without() -> None:
    problem = convex("softmax")
    plain = uw.Influence(problem.objective(), uw.inverse.Dense()).attribute(problem.queries)
    same = uw.Influence(
        problem.objective(), uw.inverse.Dense(), at=uw.expansion(training(problem), weight=1)
    ).attribute(problem.queries)
    close(same.scores, plain.scores, rtol=1e-6)
    assert same.quantity == plain.quantity


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
@pytest.mark.parametrize(
    "inverse",
    [
        uw.inverse.Dual(damping=0.1),
        uw.inverse.EKFAC(damping=0.1),
        uw.inverse.CG(uw.curvature.GGN(), damping=0.1),
        uw.inverse.Dense(uw.curvature.GGN(), damping=0.1),
    ],
)
def test_any_inverse_is_taken_at_the_trained_model(inverse: Any) -> None:
    problem = mlp()
    at = uw.expansion(steps, weight=WEIGHT)
    objective = problem.objective()
    there = with_parameters(problem.model, steps(torch.full((problem.n,), WEIGHT), 0))
    weighted = objective.replace(model=there, weights=torch.full((problem.n,), WEIGHT))
    found = uw.Influence(objective, inverse, at=at).attribute(problem.queries)
    expected = uw.Influence(weighted, inverse).attribute(problem.queries)
    close(found.scores, expected.scores)
    assert "mean weight 0.5 (a model trained there)" in found.quantity.words
    assert "not the model handed in" in found.quantity.words
    assert found.facts["mean weight"] == WEIGHT


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_ensembles_and_trak_take_a_model_for_each_seed() -> None:
    problem, seeds = mlp(), (0, 3)
    at = uw.expansion(steps, weight=WEIGHT, seeds=seeds)
    objective = problem.objective()
    weighted = objective.replace(weights=torch.full((problem.n,), WEIGHT))
    models = [steps(torch.full((problem.n,), WEIGHT), seed) for seed in seeds]
    dual = uw.inverse.Dual(damping=0.1)
    for made, given in (
        (uw.Ensemble(objective, at, dual), uw.Ensemble(weighted, models, dual)),
        (uw.TRAK(objective, at, dimension=16), uw.TRAK(weighted, models, dimension=16)),
    ):
        found = made.attribute(problem.queries)
        close(found.scores, given.attribute(problem.queries).scores)
        assert "expanded at mean weight 0.5" in str(found.quantity)
        assert found.facts["models"] == 2
    with pytest.raises(InputError, match=r"at: 2 seeds are as many models; give upweight\.Ensemble"):
        uw.Influence(objective, dual, at=at)


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_every_result_says_where_it_is_linearised() -> None:
    problem = mlp()
    influence = uw.Influence(
        problem.objective(), uw.inverse.Dual(damping=0.1), at=uw.expansion(steps, weight=WEIGHT, check=False)
    )
    queries = problem.queries
    from upweight.store.backend import Memory

    for quantity in (
        influence.self_influence().quantity,
        influence.group([0, 1], queries).quantity,
        influence.with_inverse(uw.inverse.Diagonal(damping=0.1)).attribute(queries).quantity,
        influence.attribute(queries, store=Memory()).quantity,
        influence.perturbation(0, (queries[0][:1], queries[1][:1])).quantity,
    ):
        assert "expanded at mean weight 0.5" in quantity.words


def test_the_model_handed_in_is_moved_down_its_own_objective_and_left_as_it_was() -> None:
    problem = mlp()
    objective, before = problem.objective(), problem.theta.clone()
    at = uw.expansion(weight=WEIGHT)
    there = at.one(objective)
    close(problem.theta, before, rtol=0, atol=0)
    close(there.weights, torch.full((problem.n,), WEIGHT, dtype=torch.float64))
    counts = torch.full((problem.n,), WEIGHT, dtype=torch.float64) / problem.n
    start, end = (float(problem.risk(theta, counts)) for theta in (WEIGHT**0.5 * before, there.params))
    assert end < start
    assert "the model handed in, moved there" in at.words
    further = uw.expansion(weight=WEIGHT, passes=200).one(convex("softmax").objective())
    close(further.params, convex("softmax").optimum(torch.full((24,), WEIGHT / 24, dtype=torch.float64)), rtol=1e-4)


def test_a_function_of_positions_is_told_how_to_take_weights() -> None:
    def by_positions(indices: Tensor, seed: int) -> nn.Module:
        problem = convex("softmax")
        _ = problem.x[indices]
        return problem.model

    with pytest.raises(InputError, match=r"train: it failed when it was given weights.*losses\).mean\(\)"):
        uw.Influence(convex("softmax").objective(), at=uw.expansion(by_positions))


def test_a_training_that_takes_no_notice_of_weights_is_refused() -> None:
    problem = convex("softmax")
    with pytest.raises(InputError, match="takes no notice of weights"):
        uw.Influence(problem.objective(), at=uw.expansion(lambda weights, seed: problem.model))


def test_a_training_that_is_not_the_same_twice_is_refused_with_the_difference() -> None:
    problem, runs = convex("softmax"), []

    def train(weights: Tensor, seed: int) -> Tensor:
        runs.append(seed)
        return 0.9 * problem.theta + 0.25 * len(runs)

    with pytest.raises(InputError, match=r"train: two runs with seed 0 differ, by up to 0\.25 in a parameter"):
        uw.Influence(problem.objective(), at=uw.expansion(train))
    uw.Influence(problem.objective(), at=uw.expansion(train, check=False))
    assert len(runs) == 3


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": 0}, "weight"),
        ({"weight": 1.5}, "weight"),
        ({"weight": "half"}, "weight"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (0, 1)}, "seeds: got 2; without train="),
        ({"passes": 0}, "passes"),
        ({"train": 3}, "train"),
    ],
)
def test_impossible_arguments_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        uw.expansion(**options)


@pytest.mark.usefixtures("unchecked")
def test_influence_refuses_what_is_no_expansion() -> None:
    with pytest.raises(InputError, match="at: "):
        uw.Influence(convex("softmax").objective(), at=training(convex("softmax")))  # type: ignore[arg-type]


def test_examples_left_out_have_weight_zero_and_keep_their_place() -> None:
    seen = []
    AtWeight(lambda weights, seed: seen.append((weights, seed)), 4, 0.5)(torch.tensor([0, 3]), 7)
    assert torch.equal(seen[0][0], torch.tensor([0.5, 0, 0, 0.5]))
    assert seen[0][1] == 7
