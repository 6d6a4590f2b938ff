"""An interrupted attack goes on where it was; what is kept belongs to its settings, loss and network."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import upweight as uw
from attacked import small
from problems import close
from upweight.errors import InputError
from upweight.tasks import Aim, Climb, Resources, attack
from upweight.tasks.attacks import climb as climbing
from upweight.tasks.attacks.finished import digest
from upweight.tasks.attacks.subject import Subject


def test_an_interrupted_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = small()
    options: dict[str, Any] = {"aim": Aim(targets=[0, 1, 2, 3]), "climb": Climb(iterations=2)}
    nowhere = Resources(batch_size=2, keep=2)
    folder = replace(nowhere, folder=tmp_path)
    whole = attack(*problem.arguments(), **options, resources=nowhere)
    climb, calls = climbing.climb, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return climb(*arguments)

    monkeypatch.setattr(climbing, "climb", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attack(*problem.arguments(), **options, resources=folder)
    assert len(_batches(tmp_path)) == 1
    resumed = attack(*problem.arguments(), **options, resources=folder)
    batches = 2
    assert len(calls) == 2 + batches - 1
    assert len(_batches(tmp_path)) == batches
    assert torch.equal(resumed.flipped, whole.flipped)
    close(resumed.changes, whole.changes)
    # Other settings are other work.
    attack(*problem.arguments(), **{**options, "climb": Climb(iterations=1)}, resources=folder)
    assert len(_batches(tmp_path)) == 2 * batches
    assert not list(tmp_path.glob("*.draft"))


class Weighed(uw.losses.BinaryLogistic):
    """A loss of the user's own."""

    weight = 1.0


def test_what_is_kept_belongs_to_the_loss_and_the_network() -> None:
    objective, network, images, queries = small().arguments()
    other = copy.deepcopy(network)
    other.scale = 2
    found = {
        digest(Subject.of(made, net, images), made.queries(queries))
        for made in (objective, objective.replace(loss=Weighed()))
        for net in (network, other)
        for _ in range(2)
    }
    assert len(found) == 4


def test_a_whole_file_with_something_else_in_it_is_named(tmp_path: Path) -> None:
    problem = small()
    options: dict[str, Any] = {
        "aim": Aim(targets=[0]),
        "climb": Climb(iterations=1),
        "resources": Resources(folder=tmp_path),
    }
    attack(*problem.arguments(), **options)
    for file in tmp_path.glob("*.pt"):
        before = file.read_bytes()
        file.write_bytes(hashlib.sha256(b"else").hexdigest().encode() + b"\nelse")
        with pytest.raises(InputError, match=f"{file.name} holds no finished attacks; move it away"):
            attack(*problem.arguments(), **options)
        file.write_bytes(before)


def _batches(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.pt") if not path.name.startswith("levers-")]


def test_finished_attacks_are_known_by_the_same_words_as_before() -> None:
    assert repr(Climb()) == "Climb(step=0.02, iterations=100, box=Box(radius=0.499))"
