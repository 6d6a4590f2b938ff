"""Unlearning and relabelling: steps of computed and of judged length, what is left alone, and what is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from problems import close, convex
from unlearned import CLASSES, LOOSE, SOLVE, blobs, objective, trained
from upweight import select
from upweight.errors import InputError
from upweight.predictions import given_labels, predictions
from upweight.quantities.generalized.changes import changed
from upweight.tasks import Equations, Rounds, correct_labels, unlearn
from upweight.tasks.unlearning import Judgement, membership_advantage
from upweight.tasks.unlearning.judgement import wanted
from upweight.tasks.unlearning.lengths import best_length
from upweight.tasks.unlearning.problem import held_out, left, posed, sampled

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")  # trained shortly


@pytest.mark.parametrize("method", ["GIF", "FIF"])
def test_a_class_is_forgotten_and_the_others_are_kept(method: str) -> None:
    before = {name: value.clone() for name, value in trained().state_dict().items()}
    half, rounds = select.highest_output(0.5), Rounds(search=True, steps=3)
    found = unlearn(objective(), classes=[1], parameters=half, method=method, rounds=rounds, equations=SOLVE)
    report = found.report(blobs(1), trained(without=1), retraining_seconds=2.5)
    assert report.seconds == (found.seconds, 2.5)
    assert report.removed[0] > 0.9
    assert report.removed[1] <= 1 / CLASSES
    assert report.remaining[1] >= report.remaining[0] - 0.03
    assert report.distance[1] < report.distance[0]
    moved = found.after.params != objective().params
    assert not moved[~found.subset.mask].any()
    assert found.changed.tolist() == (blobs(0)[1] == 1).nonzero().flatten().tolist()
    for name, value in trained().state_dict().items():
        assert torch.equal(value, before[name])
    assert "remaining" in repr(report)
    assert max(map(len, repr(found).splitlines())) < 120


def test_one_step_is_that_of_generalized_influence() -> None:
    members = [0, 5, 9]
    found = unlearn(objective(), members, parameters=select.highest_output(0.3), equations=SOLVE)
    expected = uw.Influence(objective()).generalized(
        uw.Removal(members), select.highest_output(0.3), method="GIF", equations=SOLVE
    )
    close(found.after.params, expected.params())
    assert found.lengths == (1.0,)


def test_linearised_anew_steps_come_to_the_retrained_model() -> None:
    """Newton's method on R′: with all of θ moving and squared curvature right, it arrives."""
    problem = convex("softmax")
    whole, members = problem.objective(), [0, 1, 2, 3, 4, 5]
    exact = Equations(tolerance=1e-12, max_iterations=2000)
    found = unlearn(
        whole,
        members,
        parameters=select.everything(whole.layout),
        method="IF",
        rounds=Rounds(steps=5),
        equations=exact,
    )
    retrained = uw.retraining.leave_out(whole, [members])
    close(found.after.params, retrained.params[0], rtol=1e-6, atol=1e-8)


def test_relabelling_learns_the_new_labels() -> None:
    x, y = blobs(0)
    index = (y == 2).nonzero().flatten()
    given = torch.full((len(index),), 3)
    half, rounds = select.highest_output(0.5), Rounds(search=True, steps=3)
    found = correct_labels(objective(), index, given, parameters=half, rounds=rounds, equations=SOLVE)
    with torch.no_grad():
        said = found.model(x[index]).argmax(1)
        others = found.model(x[y != 2]).argmax(1)
    assert float((said == 3).double().mean()) > 0.9
    assert float((others == y[y != 2]).double().mean()) > 0.9


def test_lengths_are_judged_without_a_look_at_what_steps_are_computed_from() -> None:
    half, rounds = select.highest_output(0.5), Rounds(search=True, holdout=0.25)
    found = unlearn(objective(), classes=[0], parameters=half, rounds=rounds, equations=SOLVE)
    response = found.responses[0]
    assert response.objective.n == 240 - 4 * 15
    again = unlearn(objective(), classes=[0], parameters=half, rounds=rounds, equations=SOLVE)
    close(again.after.params, found.after.params)


def test_membership_is_the_largest_gap_of_the_losses_distributions() -> None:
    members, others = torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.15, 0.8, 1.0, 2.0])
    thresholds = torch.cat([members, others])
    expected = max(float((members <= t).double().mean() - (others <= t).double().mean()) for t in thresholds)
    assert membership_advantage(members, others) == pytest.approx(expected)
    assert membership_advantage(members, members) == 0
    assert np.isnan(membership_advantage(members, others[:0]))


def test_classes_may_come_in_any_form_of_whole_numbers() -> None:
    expected = (blobs(0)[1] == 1).nonzero().flatten().tolist()
    for classes in (1, [1], [1.0], np.array([1], dtype=np.uint8), torch.tensor(1)):
        found = unlearn(objective(), classes=classes, parameters=["2.*"], equations=LOOSE)
        assert found.changed.tolist() == expected


def test_units_are_ranked_once_on_the_first_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked: list[Any] = []
    of = select.Rule.of
    monkeypatch.setattr(select.Rule, "of", lambda *given: ranked.append(given) or of(*given))
    rounds = Rounds(steps=3, sample=20)
    found = unlearn(objective(), classes=[1], parameters=select.highest_output(0.5), rounds=rounds, equations=LOOSE)
    assert len(ranked) == 1
    first = sampled(posed(objective(), found.changed, None), 20, 0)
    assert torch.equal(ranked[0][2], first.positions)
    assert torch.equal(of(select.highest_output(0.5), first.objective, first.positions).mask, found.subset.mask)


@pytest.mark.parametrize("relabelled", [False, True])
def test_a_sample_stands_for_all_in_the_mean(relabelled: bool) -> None:
    """Weights of a sample make its sums those of all: the mean over many draws is the whole gradient."""
    whole = objective()
    members = (blobs(0)[1] == 1).nonzero().flatten()
    targets = torch.full((len(members),), 2) if relabelled else None
    problem = posed(whole, members, targets)
    draws = [sampled(problem, 20, seed) for seed in range(400)]
    for drawn in draws[:3]:
        assert drawn.objective.n == 40
        assert len(drawn.positions) == 20
        assert float(drawn.objective.weights.sum()) == pytest.approx(drawn.objective.n)
        given = drawn.objective.data.take(drawn.positions)[1]
        assert (given == 1).all()
    mean = torch.stack([drawn.objective.gradient() for drawn in draws]).mean(0)
    spread = torch.stack([drawn.objective.gradient() for drawn in draws]).std(0) / len(draws) ** 0.5
    assert float(((mean - whole.gradient()).abs() / spread.clamp_min(1e-12)).max()) < 5


def test_a_sample_of_everybody_is_everybody() -> None:
    members = (blobs(0)[1] == 1).nonzero().flatten()
    options: dict[str, Any] = {"classes": [1], "parameters": select.highest_output(0.3), "equations": SOLVE}
    close(
        unlearn(objective(), rounds=Rounds(steps=2, sample=240), **options).after.params,
        unlearn(objective(), rounds=Rounds(steps=2), **options).after.params,
        rtol=1e-6,
    )
    assert sampled(posed(objective(), members, None), None, 0).objective is objective()


@pytest.mark.parametrize("relabelled", [False, True])
@pytest.mark.parametrize("sample", [None, 7, 70])
@pytest.mark.parametrize("holdout", [None, 0.25])
def test_how_many_are_left_is_known_before_a_sample_is_drawn(
    relabelled: bool, sample: int | None, holdout: float | None
) -> None:
    members = (blobs(0)[1] == 1).nonzero().flatten()
    problem = posed(objective(), members, torch.full((len(members),), 2) if relabelled else None)
    if holdout is not None:
        problem, _ = held_out(problem, holdout, None, 0)
    drawn = sampled(problem, sample, 0)
    assert left(problem, sample) == changed(drawn.objective, drawn.change).count


def test_what_is_held_out_is_never_computed_from() -> None:
    members = (blobs(0)[1] == 1).nonzero().flatten()
    given = torch.arange(len(members)) % CLASSES
    problem, judge = held_out(posed(objective(), members, given), 0.25, None, 0)
    assert problem.among is not None
    held = torch.cat([judge.stays, judge.changes])
    assert not set(held.tolist()) & set(problem.among.tolist())
    assert len(held) + len(problem.among) == 240
    assert judge.replaced is not None
    place = {int(member): label for member, label in zip(members, given.tolist(), strict=True)}
    assert judge.replaced.take(range(len(judge.changes)))[1].tolist() == [place[int(i)] for i in judge.changes]
    drawn = sampled(problem, None, 0)
    assert drawn.targets is not None
    kept = [int(member) for member in members if int(member) in set(problem.among.tolist())]
    assert drawn.targets.tolist() == [place[member] for member in kept]


def test_the_score_is_the_likelihood_of_what_is_wanted() -> None:
    x, y = blobs(0)
    stays, changes = (y != 1).nonzero().flatten()[:30], (y == 1).nonzero().flatten()[:20]
    with torch.no_grad():
        probabilities = trained()(x).softmax(1)
    right = probabilities[stays, y[stays]].clamp_min(1e-6).log().mean()
    forgotten = (1 - probabilities[changes, 1]).clamp_min(1e-6).log().mean()
    assert Judgement(objective(), stays, changes).score(objective().params) == pytest.approx(float(right + forgotten))
    replaced = uw.Relabelling(changes, torch.full((20,), 3)).examples(objective())
    learnt = probabilities[changes, 3].clamp_min(1e-6).log().mean()
    judge = Judgement(objective(), stays, changes, replaced)
    assert judge.score(objective().params) == pytest.approx(float(right + learnt))


def test_a_judged_step_is_never_worse_than_none() -> None:
    half, rounds = select.highest_output(0.5), Rounds(search=True, steps=3, sample=30)
    found = unlearn(objective(), classes=[1], parameters=half, rounds=rounds, equations=SOLVE)
    _, judge = held_out(posed(objective(), found.changed, None), 0.1, 30, 0)
    assert found.score == pytest.approx(judge.score(found.after.params))
    assert found.score > judge.score(objective().params)
    dampings = [each.damping for each in found.responses]
    for length, now, after in zip(found.lengths, dampings, dampings[1:], strict=False):
        assert after == pytest.approx(now * (4 if length < 1 else 0.5 if length > 1 else 1))


@pytest.mark.parametrize(("best", "expected"), [(1.0, 1.0), (8.0, 8.0), (0.25, 0.25), (5.0, 4.0), (0.0, 0.0)])
def test_the_length_is_the_best_multiple_of_two(best: float, expected: float) -> None:
    calls: list[float] = []

    def score(length: float) -> float:
        calls.append(length)
        return -abs(length - best)

    assert best_length(score) == expected
    assert len(calls) == len(set(calls))
    assert best_length(lambda length: float(length == 0)) == 0


def test_losses_without_probabilities_are_judged_by_shares() -> None:
    x, y = blobs(0)
    signs = torch.where(y == 1, 1, -1)
    torch.manual_seed(0)
    model = nn.Linear(6, 1).double()
    machine = uw.Objective(model, uw.losses.SmoothHinge(0.1), (x, signs), l2=1e-2)
    with torch.no_grad():
        right = (model(x).squeeze(1) > 0) == (y == 1)
    some = torch.arange(40)
    assert wanted(machine, machine.params, machine.data, some, True) == pytest.approx(float(right[:40].double().mean()))
    assert wanted(machine, machine.params, machine.data, some, False) == pytest.approx(
        float((~right[:40]).double().mean())
    )


def test_labels_are_read_without_running_the_model_over_all_examples() -> None:
    assert torch.equal(given_labels(objective()), predictions(objective()).given)
    x, y = blobs(0)
    signed = uw.Objective(nn.Linear(6, 1).double(), uw.losses.BinaryLogistic(), (x, torch.where(y == 1, 1, -1)))
    assert torch.equal(given_labels(signed), predictions(signed).given)
    with pytest.raises(InputError, match="loss: SquaredError doesn't say which class"):
        given_labels(uw.Objective(nn.Linear(6, 1).double(), uw.losses.SquaredError(), (x, x[:, :1])))
