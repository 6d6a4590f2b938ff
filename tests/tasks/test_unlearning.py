"""Unlearning and relabelling: steps of computed and of judged length, what is left alone, and what is reported."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, close, convex
from upweight import select
from upweight.messages import InputError
from upweight.tasks import relabel, unlearn
from upweight.tasks.unlearning import membership_advantage

pytestmark = pytest.mark.filterwarnings("ignore::upweight.messages.NotStationaryWarning")  # trained shortly
CLASSES = 4
SOLVE = {"damping": 1e-3, "tolerance": 1e-6, "max_iterations": 300}


def blobs(seed: int, n: int = 240) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, 6, generator=torch.Generator().manual_seed(7), dtype=DOUBLE) * 2
    labels = torch.arange(n) % CLASSES
    return centres[labels] + 0.7 * torch.randn(n, 6, generator=generator, dtype=DOUBLE), labels


@cache
def trained(without: int | None = None) -> nn.Module:
    x, y = blobs(0)
    if without is not None:
        x, y = x[y != without], y[y != without]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, CLASSES)).double()
    optimiser = torch.optim.Adam(model.parameters(), 0.02, weight_decay=1e-3)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval()


@cache
def objective() -> uw.Objective:
    return uw.Objective(trained(), uw.losses.CrossEntropy(), blobs(0), l2=1e-3)


@pytest.mark.parametrize("method", ["GIF", "FIF"])
def test_a_class_is_forgotten_and_the_others_are_kept(method: str) -> None:
    before = {name: value.clone() for name, value in trained().state_dict().items()}
    found = unlearn(
        objective(), classes=[1], parameters=select.highest_output(0.5), method=method, search=True, steps=3, **SOLVE
    )
    report = found.report(blobs(1), trained(without=1))
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
    found = unlearn(objective(), members, parameters=select.highest_output(0.3), **SOLVE)
    expected = uw.Influence(objective()).generalized(
        uw.Removal(members), select.highest_output(0.3), method="GIF", **SOLVE
    )
    close(found.after.params, expected.params())
    assert found.lengths == (1.0,)


def test_linearised_anew_steps_come_to_the_retrained_model() -> None:
    """Newton's method on R′: with all of θ moving and squared curvature right, it arrives."""
    problem = convex("softmax")
    whole, members = problem.objective(), [0, 1, 2, 3, 4, 5]
    exact = {"damping": 0.0, "tolerance": 1e-12, "max_iterations": 2000}
    found = unlearn(whole, members, parameters=select.everything(whole.layout), method="IF", steps=5, **exact)
    retrained = uw.retraining.leave_out(whole, [members])
    close(found.after.params, retrained.params[0], rtol=1e-6, atol=1e-8)


def test_relabelling_learns_the_new_labels() -> None:
    x, y = blobs(0)
    index = (y == 2).nonzero().flatten()
    given = torch.full((len(index),), 3)
    found = relabel(objective(), index, given, parameters=select.highest_output(0.5), search=True, steps=3, **SOLVE)
    with torch.no_grad():
        said = found.model(x[index]).argmax(1)
        others = found.model(x[y != 2]).argmax(1)
    assert float((said == 3).double().mean()) > 0.9
    assert float((others == y[y != 2]).double().mean()) > 0.9


def test_lengths_are_judged_without_a_look_at_what_steps_are_computed_from() -> None:
    found = unlearn(objective(), classes=[0], parameters=select.highest_output(0.5), search=True, holdout=0.25, **SOLVE)
    response = found.responses[0]
    assert response.objective.n == 240 - 4 * 15
    again = unlearn(objective(), classes=[0], parameters=select.highest_output(0.5), search=True, holdout=0.25, **SOLVE)
    close(again.after.params, found.after.params)


def test_membership_is_the_largest_gap_of_the_losses_distributions() -> None:
    members, others = torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.15, 0.8, 1.0, 2.0])
    thresholds = torch.cat([members, others])
    expected = max(float((members <= t).double().mean() - (others <= t).double().mean()) for t in thresholds)
    assert membership_advantage(members, others) == pytest.approx(expected)
    assert membership_advantage(members, members) == 0
    assert np.isnan(membership_advantage(members, others[:0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "remove: give positions of training examples, or classes"),
        ({"remove": [0], "classes": [1]}, "remove: give positions of training examples, or classes"),
        ({"classes": [9]}, r"classes: \[9\] aren't among the training labels \[0, 1, 2, 3\]"),
        ({"classes": [0, 1, 2, 3]}, "remove: they are all 240 training examples"),
        ({"remove": [0], "steps": 0}, "steps: must be at least 1; got 0"),
        ({"remove": [0], "search": True}, "holdout: 0.1 of 1 examples leaves none on one side"),
        ({"remove": range(50), "search": True, "holdout": 1.5}, "holdout: a share of the training examples"),
        ({"remove": [0], "parameters": ["9.*"]}, "matches none"),
    ],
)
def test_what_cannot_be_unlearned_is_refused_with_the_mend(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        unlearn(objective(), **options)
    with pytest.raises(InputError, match="targets: need one for each of the 2 indices; got 1"):
        relabel(objective(), [0, 1], [2])
