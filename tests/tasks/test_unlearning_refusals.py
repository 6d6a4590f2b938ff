"""What can't be unlearnt, or not so, is refused by name with the mend, before any pass over the model."""

from __future__ import annotations

import math
from typing import Any

import pytest
from torch import nn

import upweight as uw
from problems import convex
from unlearned import objective
from upweight import select
from upweight.errors import InputError
from upweight.tasks import Equations, Rounds, correct_labels, unlearn

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")  # trained shortly


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "remove: give positions of training examples, or classes"),
        ({"remove": [0], "classes": [1]}, "remove: give positions of training examples, or classes"),
        ({"classes": []}, "classes: got none; give at least one label"),
        ({"classes": [9]}, r"classes: \[9\] aren't among the training labels \[0, 1, 2, 3\]"),
        ({"classes": [0, 1, 2, 3]}, "remove: they are all 240 training examples"),
        ({"remove": [0], "rounds": Rounds(search=True)}, "holdout: 0.1 of 1 examples leaves none on one side"),
        ({"remove": [0], "parameters": ["9.*"]}, "matches none"),
    ],
)
def test_what_cannot_be_unlearned_is_refused_with_the_mend(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        unlearn(objective(), **options)
    with pytest.raises(InputError, match="targets: need one for each of the 2 indices; got 1"):
        correct_labels(objective(), [0, 1], [2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: give a whole number of at least 1; got 0"),
        ({"sample": 0}, "sample: give a whole number of at least 1"),
        ({"holdout": 1.5}, "holdout: give a finite number > 0 and < 1"),
    ],
)
def test_rounds_are_refused_when_they_are_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rounds(**options)


EARLY: dict[str, tuple[dict[str, Any], str]] = {
    "no equations": ({"equations": None}, r"equations: give tasks.Equations\(damping=…\); got None"),
    "another method's solver": (
        {"method": "FIF", "equations": Equations(solver=uw.inverse.Neumann())},
        "solver: the Neumann series is GIF's",
    ),
    "more examples than are left": (
        {"equations": Equations(examples=239)},
        "examples: give a whole number from 1 to 238; got 239",
    ),
    "more examples than a sample has": (
        {"equations": Equations(examples=13), "rounds": Rounds(sample=10)},
        "examples: give a whole number from 1 to 10; got 13",
    ),
    "more examples than a search leaves": (
        {"remove": range(10), "equations": Equations(examples=208), "rounds": Rounds(search=True)},
        "examples: give a whole number from 1 to 207; got 208",
    ),
    "a seed": ({"seed": 1.7}, "seed: give a whole number"),
    "an unknown method": ({"method": "HIF"}, "method: one of 'GIF'"),
    "rounds": ({"rounds": 3}, "rounds: give tasks.Rounds"),
    "parameters": ({"parameters": [math.nan]}, "parameters: give names or shell patterns; got nan among them"),
    "parameters of another kind": ({"parameters": math.nan}, "parameters: give names or patterns, .* got nan"),
    "a part by IF": ({"method": "IF", "parameters": ["0.*"]}, "method: IF answers with all"),
    "positions": ({"remove": [999]}, r"^remove: positions must be in 0 … 239; got 999"),
    "positions twice": ({"remove": [3, 3]}, "^remove: 3 is named 2 times"),
    "a fraction for a class": ({"remove": None, "classes": [1.5]}, "classes: give whole numbers; got 1.5"),
    "a flag for a class": ({"remove": None, "classes": True}, "classes: give whole numbers; got True"),
    "a mask for classes": ({"remove": None, "classes": [True, False]}, "classes: give whole numbers; got"),
    "a complex class": ({"remove": None, "classes": 1 + 2j}, r"classes: give real numbers; got \(1\+2j\)"),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Calls of any sequential model."""
    found: list[Any] = []
    forward = nn.Sequential.forward
    monkeypatch.setattr(nn.Sequential, "forward", lambda self, x: found.append(self) or forward(self, x))
    return found


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", EARLY)
def test_what_does_not_fit_is_refused_before_any_pass(name: str, calls: list[Any]) -> None:
    options, message = EARLY[name]
    whole = objective().replace(l2=1e-2)  # nothing is known of it yet
    calls.clear()
    with pytest.raises(InputError, match=message):
        unlearn(whole, **{"remove": [0, 1], **options})
    if "remove" not in options and "left" not in name:
        with pytest.raises(InputError, match=message.replace("to 10;", "to 12;")):
            correct_labels(whole, [0, 1], [1, 0], **options)
    assert not calls


@pytest.mark.usefixtures("unchecked")
def test_more_examples_than_there_are_of_new_labels_are_refused(calls: list[Any]) -> None:
    with pytest.raises(InputError, match="examples: give a whole number from 1 to 240; got 241"):
        correct_labels(objective(), [0, 1], [1, 0], equations=Equations(examples=241))
    with pytest.raises(InputError, match=r"^indices: positions must be in 0 … 239; got 999"):
        correct_labels(objective(), [999], [1])
    with pytest.raises(InputError, match="targets: give real numbers"):
        correct_labels(objective(), [0], [1 + 2j])
    assert not calls


def test_an_inverse_of_another_size_is_refused_before_any_pass(calls: list[Any]) -> None:
    small = convex("ridge").objective()
    given = Equations(preconditioner=uw.inverse.Dense().fit(small))
    whole, message = objective().replace(l2=1e-2), f"preconditioner: give .* of {objective().p} parameters; got one of"
    calls.clear()
    with pytest.raises(InputError, match=message):
        unlearn(whole, [0, 1], equations=given)
    with pytest.raises(InputError, match=message):
        unlearn(whole, classes=[1], equations=given)
    assert not calls


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "option", ["steps", "search", "holdout", "sample", "damping", "curvature", "renormalize", "prameters"]
)
def test_an_argument_that_there_is_not_is_refused_in_the_name_of_the_function(option: str, calls: list[Any]) -> None:
    with pytest.raises(TypeError, match=rf"unlearn\(\) got an unexpected keyword argument '{option}'"):
        unlearn(objective(), [0, 1], **{option: 3})
    with pytest.raises(TypeError, match=rf"correct_labels\(\) got an unexpected keyword argument '{option}'"):
        correct_labels(objective(), [0, 1], [1, 1], **{option: 3})
    assert not calls


def test_new_labels_are_looked_at_before_units_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select.Rule, "of", lambda *given: pytest.fail("units were ranked"))
    with pytest.raises(InputError, match="CrossEntropy: targets range from 99 to 99"):
        correct_labels(objective(), [0], [99])
