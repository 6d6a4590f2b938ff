"""Attacks refuse settings, images, networks and tops that can't be attacked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

import upweight as uw
from attacked import small
from problems import DOUBLE
from upweight.errors import InputError
from upweight.tasks import Aim, Climb, LeverChoice, Resources, attack
from upweight.tasks.attacks.box import Box


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": "scaled"}, "no whole numbers"),
        ({"images": "outside"}, r"range from -3 to .*let the network scale them"),
        ({"images": "few"}, "one for each of the 24"),
        ({"images": "others"}, "features of the stored images differ"),
        ({"network": nn.Flatten()}, r"network: gives \(3, 36\)"),
        ({"network": 3}, "give an nn.Module or a function"),
        ({"network": nn.Sequential(nn.Dropout(0.5))}, "training mode"),
        ({"levers": LeverChoice(count=25)}, "count: 25 images"),
        ({"aim": Aim(targets=[99])}, "targets: positions must be in 0 … 7"),
        ({"aim": Aim(targets=[1, 1])}, "named twice"),
        ({"aim": Aim(targets=[])}, "at least one position"),
        ({"aim": Aim(query_ids=["a"])}, "query_ids"),
        ({"aim": "wrong"}, "predicted wrongly already"),
        ({"aim": [0]}, r"aim: give tasks.Aim\(targets=\[…\]\), or None; got \[0\]"),
        ({"climb": Climb}, "climb: give tasks.Climb"),
        ({"levers": LeverChoice(positions=[[0]])}, r"positions: give shape \(8, 1\)"),
        ({"levers": LeverChoice(positions=[[0], [1, 2]])}, r"positions: give shape \(8, 1\)"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], words: str) -> None:
    problem = small()
    objective, network, images, (features, labels) = problem.arguments()
    name, value = next(iter(change.items()))
    if name == "images":
        images = {
            "scaled": images / 255,
            "outside": images.float() - images.float().min() - 3,
            "few": images[:5],
            "others": images.flip(0),
        }[value]
    elif name == "network":
        network = value
    options = {} if name in ("images", "network") else dict(change)
    if value == "wrong":
        labels = 1 - labels
        options["aim"] = Aim(targets=[0])
    with pytest.raises(InputError, match=words):
        attack(objective, network, images, (features, labels), **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Box(0.0), "radius: got 0.0, .*the box permits no change"),
        (lambda: Box(0.5), "rounding may change a byte"),
        (lambda: Climb(step=0.0), "step .*: give a finite number > 0"),
        (lambda: Climb(iterations=0), "iterations: give a whole number of at least 1"),
        (lambda: Climb(box=0.3), r"box: give tasks.Box\(radius\); got 0.3"),  # type: ignore[arg-type]
        (lambda: LeverChoice(count=0), "count: give a whole number of at least 1"),
        (lambda: LeverChoice(candidates=0), "candidates: give a whole number of at least 1"),
        (lambda: Aim(targets="all"), "targets: give numbers; got 'all'"),
        (lambda: Aim(targets=[1 + 2j]), "targets: give real numbers"),
        (lambda: Aim(targets=1.5), "targets: give positions of queries, whole numbers from 0; got 1.5"),
        (lambda: Aim(targets=True), "targets: give positions of queries"),
        (lambda: Aim(targets=-1), "targets: give positions of queries"),
        (lambda: LeverChoice(positions=math.nan), "positions: give a list"),  # type: ignore[arg-type]
        (lambda: LeverChoice(positions="3"), "positions: give a list"),
        (lambda: Climb(step=2.0**70), "step .*: give a finite number > 0 and ≤ 255"),
        (lambda: Climb(step=10**400), "step: give a finite number"),
        (lambda: Resources(batch_size=2**70), "batch_size: give a whole number of at least 1"),
        (lambda: Resources(folder="a\0b"), "folder: 'a.*b' holds a zero byte"),
        (lambda: Aim(together=1), "together: give True or False; got 1"),  # type: ignore[arg-type]
        (lambda: Resources(batch_size=0), "batch_size: give a whole number of at least 1"),
        (lambda: Resources(keep=-1), "keep: give a whole number of at least 0"),
        (lambda: Resources(folder=3), "folder: give .*; got 3"),  # type: ignore[arg-type]
    ],
)
def test_settings_are_refused_when_they_are_made(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.usefixtures("unchecked")
def test_tops_that_cannot_be_attacked_are_refused() -> None:
    problem = small()
    features, labels = problem.features(problem.images).detach(), problem.labels
    arguments = (problem.network, problem.images, problem.queries)
    one = uw.Objective(nn.Linear(24, 1, dtype=DOUBLE), uw.losses.BinaryLogistic(), (features, labels * 0), l2=0.1)
    with pytest.raises(InputError, match="all 24 training examples are of class 0"):
        attack(one, *arguments)
    deep = nn.Sequential(nn.Linear(24, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    with pytest.raises(InputError, match="a linear last layer"):
        attack(uw.Objective(deep, uw.losses.BinaryLogistic(), (features, labels), l2=0.1), *arguments)
    hinge = uw.Objective(nn.Linear(24, 1, dtype=DOUBLE), uw.losses.SmoothHinge(0.1), (features, labels), l2=0.1)
    with pytest.raises(InputError, match="gives no probabilities"):
        attack(hinge, *arguments)
