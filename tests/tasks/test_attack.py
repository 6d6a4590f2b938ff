"""Training-set attacks flip what they say, by the levers that they rank highest, and leave every byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import upweight as uw
from attacked import small
from problems import close
from upweight.tasks import Aim, Climb, LeverChoice, Resources, attack
from upweight.tasks.attacks.box import Box
from upweight.tasks.attacks.subject import Subject


@pytest.mark.parametrize("classes", [2, 3])
def test_an_attack_flips_what_it_says_and_leaves_every_byte(classes: int) -> None:
    problem = small(classes)
    before = {name: value.clone() for name, value in problem.network.state_dict().items()}
    objective = problem.top()
    found = attack(
        *(objective, problem.network, problem.images, problem.queries),
        aim=Aim(targets=[0, 1, 2]),
        levers=LeverChoice(count=6),
        climb=Climb(iterations=6, step=0.1),
    )
    assert bool(found.flipped.any())
    for number in range(len(found.steps)):
        levels = problem.images.double()
        levels[found.positions[number]] = found.perturbed(number).double()
        assert (levels.round().to(torch.uint8) == problem.images).all()
        retrained = problem.top(levels)
        said = uw.tasks.predictions(retrained, retrained.queries(problem.queries).take(found.targets[number]))
        assert bool(said.wrong[0]) == bool(found.flipped[number, 0])
        probability = float(said.probability(said.given)[0])
        assert probability == pytest.approx(float(found.after()[number, 0]), abs=1e-5)
        assert probability < float(found.before()[number, 0])
    assert all(value.grad is None for value in problem.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in problem.network.state_dict().items())
    table = found.to_pandas()
    assert len(table) == len(found.targets)
    assert table["flipped"].sum() == int(found.flipped.sum())
    share = found.share()
    assert share.interval.low < share.value < share.interval.high or share.value in (0.0, 1.0)
    assert "every stored byte is as it was" in repr(found)


def test_more_images_and_a_wider_box_move_the_prediction_further() -> None:
    problem = small()
    aim, climb, four = Aim(targets=[0]), Climb(iterations=6, step=0.1), LeverChoice(count=4)
    one, more = (
        attack(*problem.arguments(), aim=aim, levers=levers, climb=climb) for levers in (LeverChoice(count=1), four)
    )
    tight = attack(*problem.arguments(), aim=aim, levers=four, climb=replace(climb, box=Box(0.1)))
    assert float(more.after()) < float(one.after()) < float(one.before())
    assert float(more.after()) < float(tight.after())
    assert "flipped by changing 1 training image: " in repr(one)
    assert "flipped by changing 4 training images: " in repr(more)


def test_influence_moves_the_prediction_more_than_random_signs() -> None:
    problem = small()
    objective = problem.top()
    given = objective, problem.network, problem.images, problem.queries
    found = attack(*given, aim=Aim(targets=[0]), climb=Climb(iterations=10, step=0.1))
    position = found.positions[0]
    probabilities = []
    for seed in range(6):
        signs = (
            torch.randint(0, 2, problem.images[position].shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        )
        change = Box().project(problem.images[position], 0.499 * signs.double())
        features = problem.features(problem.images[position] + change)
        theta = uw.retraining.replace(objective, [position], (features.detach(), problem.labels[position])).params[0]
        loss = objective.at(theta).losses(objective.queries(problem.queries).take([0]))
        probabilities.append(float((-loss).exp()))
    assert float(found.after()) < min(probabilities)


def test_several_targets_are_attacked_together() -> None:
    problem = small()
    found = attack(
        *problem.arguments(),
        aim=Aim(targets=[0, 1, 2], together=True, query_ids=list("abcdefgh")),
        levers=LeverChoice(count=3),
        climb=Climb(iterations=3),
    )
    assert found.flipped.shape == (1, 3)
    assert found.probabilities.shape[2] == 3
    before, after = found.before()[0], found.after()[0]
    assert float(-after.log().mean()) > float(-before.log().mean())
    assert list(found.to_pandas()["query"]) == ["a", "b", "c"]


def test_the_batching_changes_nothing() -> None:
    problem = small()
    aim, climb = Aim(targets=[0, 1, 2]), Climb(iterations=3)
    several, alone = (
        attack(*problem.arguments(), aim=aim, climb=climb, resources=Resources(batch_size=size)) for size in (2, 1)
    )
    assert torch.equal(several.steps, alone.steps)
    close(several.probabilities.nan_to_num(), alone.probabilities.nan_to_num(), rtol=1e-4, atol=1e-6)


def test_levers_are_ranked_by_the_norm_of_the_gradient_at_the_pixels() -> None:
    problem = small()
    found = attack(
        *problem.arguments(),
        aim=Aim(targets=[3]),
        levers=LeverChoice(candidates=24),
        climb=Climb(iterations=1),
    ).levers
    objective = problem.top()
    subject = Subject.of(objective, problem.network, problem.images)
    direction = subject.influence.query_solution(objective.queries(problem.queries).take([3]))[0].x[0]
    everyone = torch.arange(24)
    levels = subject.levels(everyone).requires_grad_()
    features = subject.features(levels)
    batch = objective.data.take(everyone)
    slopes = subject.perturbation(objective.params, direction, everyone, batch)
    norms = subject.through(levels, features, slopes).flatten(1).abs().sum(1)
    close(found.norms[0], norms.sort(descending=True).values, rtol=1e-6)
    assert found.positions[0, 0] == norms.argmax()
    assert found.concentration(24) == pytest.approx(1.0)
    assert 1 / 24 <= found.concentration(1) < found.concentration(5) < 1
    assert found.to_pandas()["first"].sum() == 1
