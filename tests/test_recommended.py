"""What is recommended within a budget: costs by the clock, gains by the rules measured, reasons with figures."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import upweight as uw
from problems import close, convex, mlp
from upweight.errors import InputError
from upweight.planning.ways import GAINS, MOVED, ONE, TEMPERED, TRAINED, Way, choose, reason, ways
from upweight.recommended import Recommendation, moved

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")


def train(weights: Tensor, seed: int) -> Tensor:
    """A short training of the network of `mlp`, by full gradients; a fiftieth of a second at least."""
    time.sleep(0.02)
    problem = mlp()
    theta = problem.theta + 0.1 * torch.randn(len(problem.theta), generator=torch.Generator().manual_seed(seed))
    theta = theta.detach().requires_grad_()
    (slope,) = torch.autograd.grad(problem.risk(theta, weights.double() / problem.n), theta)
    return (theta - 0.1 * slope).detach()


def test_costs_are_sums_of_what_was_timed() -> None:
    found = {way.name: way.seconds for way in ways(scored=3.0, moving=2.0, training=10.0)}
    assert found[ONE] == 3.0
    assert found[MOVED] == 5.0
    assert found[TRAINED] == 23.0  # trained twice, to be sure of its seed
    assert found[f"{TRAINED}, 3 seeds"] == 49.0


def test_the_highest_gain_that_is_affordable_is_chosen() -> None:
    every = ways(scored=3.0, moving=2.0, training=10.0)
    assert [way.measured.gain for way in every] == sorted(way.measured.gain for way in every)
    for budget in (3.0, 5.0, 30.0, 1000.0):
        best = choose(every, budget)
        assert best.seconds <= budget
        assert not [way for way in every if way.seconds <= budget and way.measured.gain > best.measured.gain]
    assert choose(every, 1.0).seconds == 3.0  # the cheapest, where nothing fits
    assert "nothing fits" in reason(choose(every, 1.0), every, 1.0, 10.0, 2.0)


def test_without_a_training_no_training_is_recommended_and_linear_models_stay_as_they_are() -> None:
    names = {way.name for way in ways(scored=1.0, moving=1.0, training=math.nan)}
    assert names == {ONE, TEMPERED, MOVED}
    assert {way.name for way in ways(1.0, math.nan, math.nan)} == {ONE, TEMPERED}  # moving does harm
    assert {way.name for way in ways(1.0, 1.0, math.nan, classes=False)} == {ONE, MOVED}  # no temperature
    assert [way.name for way in ways(scored=1.0, moving=1.0, training=1.0, linear=True)] == [ONE]


def test_what_is_recommended_can_be_run() -> None:
    problem = mlp()
    found = uw.recommend(problem.objective(), train, budget=1000, queries=problem.queries)
    assert found.training >= 0.02
    assert found.way == found.ways[-1]
    several = replace(found, way=next(way for way in found.ways if way.models == 3))
    built = several.build()
    assert isinstance(built, uw.Ensemble)
    expected = uw.Ensemble(problem.objective(), uw.expansion(train, weight=0.5, seeds=range(3)))
    close(built.attribute(problem.queries).scores, expected.attribute(problem.queries).scores)
    assert found.reason in str(found)
    assert all(str(way) in str(found) for way in found.ways)


def test_where_there_is_no_time_for_a_training_outputs_are_tempered() -> None:
    problem = mlp()
    every = ways(scored=3.0, moving=2.0, training=10.0)
    best = choose(every, 3.5)
    assert best.name == TEMPERED
    built = Recommendation(problem.objective(), train, best, every, 3.5, 10.0, 1.0, 2.0, "").build()
    loss = uw.losses.CrossEntropy(temperature=2.0)
    expected = uw.Influence(problem.objective().replace(loss=loss))
    close(built.attribute(problem.queries).scores, expected.attribute(problem.queries).scores)


def test_moving_is_offered_where_it_fits_single_examples_less_closely() -> None:
    problem = mlp()
    at_optimum = problem.objective()
    there = uw.expansion(weight=0.5).one(at_optimum)
    assert float(there.losses().mean()) > float(at_optimum.losses().mean())
    assert moved(at_optimum) > 0
    untrained = at_optimum.at(3 * torch.randn(at_optimum.p, generator=torch.Generator().manual_seed(0)).double())
    assert math.isnan(moved(untrained))


def test_of_a_linear_model_it_is_influence_as_ever() -> None:
    problem = convex("softmax")
    found = uw.recommend(problem.objective(), budget=1000)
    assert (found.way.name, found.at) == (ONE, None)
    close(
        found.build().attribute(problem.queries).scores,
        uw.Influence(problem.objective()).attribute(problem.queries).scores,
    )


def test_every_gain_was_measured_and_one_model_is_what_gains_are_over() -> None:
    assert GAINS[ONE, 0].gain == GAINS[ONE, 0].worst == 0
    assert all(each.tasks >= 4 and each.worst <= each.gain for each in GAINS.values())


def test_bad_input_is_refused_by_name() -> None:
    objective = mlp().objective()
    with pytest.raises(InputError, match="budget, in seconds"):
        uw.recommend(objective, budget=0)
    with pytest.raises(InputError, match="train: it failed when it was given weights"):
        uw.recommend(objective, lambda indices, seed: torch.zeros(7)[indices], budget=1)


def test_a_way_says_its_seconds_its_gain_and_where_it_did_worst() -> None:
    way = Way(TRAINED, 1, 130.0, GAINS[TRAINED, 1])
    assert "2 min" in str(way)
    assert f"{way.measured.gain:+.3f}" in str(way)
    assert f"worst {way.measured.worst:+.3f}" in str(way)
