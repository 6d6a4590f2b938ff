"""Training-set attacks: I_pert through a network against retraining, bytes, solves, resumption, refusals."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight.errors import InputError
from upweight.tasks import Aim, Climb, LeverChoice, Resources, attack
from upweight.tasks.attacks import climb as climbing
from upweight.tasks.attacks.box import Box, same_bytes, stored_images
from upweight.tasks.attacks.finished import digest
from upweight.tasks.attacks.subject import Subject
from upweight.tasks.attacks.together import inverted, retrained_hessians, solve


@dataclass(frozen=True)
class Small:
    """A tiny smooth network on 6 × 6 images, and the logistic or softmax top on its features."""

    network: nn.Module
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int

    @property
    def n(self) -> int:
        return len(self.images)

    def features(self, levels: Tensor) -> Tensor:
        return self.network(levels.double())

    def top(self, levels: Tensor | None = None) -> uw.Objective:
        """Trained from scratch on these training images."""
        features = self.features(self.images if levels is None else levels).detach()
        outputs = 1 if self.classes == 2 else self.classes
        loss = uw.losses.BinaryLogistic() if self.classes == 2 else uw.losses.CrossEntropy()
        model = nn.Linear(features.shape[1], outputs, bias=self.classes > 2, dtype=DOUBLE)
        nn.init.zeros_(model.weight)
        return uw.retraining.fit(uw.Objective(model, loss, (features, self.labels), l2=0.03), tolerance=1e-11)

    @property
    def queries(self) -> tuple[Tensor, Tensor]:
        return self.features(self.test_images).detach(), self.test_labels

    def arguments(self) -> tuple[Any, ...]:
        return self.top(), self.network, self.images, self.queries


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, dtype=DOUBLE)

    def forward(self, levels: Tensor) -> Tensor:
        return torch.sin(self.conv(levels * 4)).flatten(1)


@cache
def small(classes: int = 2) -> Small:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(3)
    network = Scaled().eval()
    base = torch.randint(40, 215, (classes, 1, 6, 6), generator=generator)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(n) % classes
        noise = torch.randint(-9, 10, (n, 1, 6, 6), generator=generator).div(8, rounding_mode="trunc")
        return (base[labels] + noise).clamp(0, 255).to(torch.uint8), labels

    return Small(network, *draw(24), *draw(8), classes)


@pytest.mark.parametrize("classes", [2, 3])
def test_i_pert_through_the_network_is_the_finite_difference_of_retraining(classes: int) -> None:
    problem = small(classes)
    objective = problem.top()
    subject = Subject.of(objective, problem.network, problem.images)
    query = objective.queries(problem.queries).take([1])
    direction = subject.influence.query_solution(query)[0].x[0]
    position = torch.tensor([5])
    levels = subject.levels(position).requires_grad_()
    features = subject.features(levels)
    slopes = subject.perturbation(objective.params, direction, position, subject.examples(position, features))
    gradient = subject.through(levels, features, slopes)[0, 0]
    step = 2e-3
    for at in ((0, 0), (2, 3), (4, 4)):
        losses = []
        for sign in (1, -1):
            moved = problem.images.double()
            moved[5, 0, *at] += sign * step
            losses.append(float(problem.top(moved).losses(query)))
        assert float(gradient[at]) / problem.n == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_the_change_the_bytes_are_those_stored(data: st.DataObject) -> None:
    levels = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=30))
    stored = torch.tensor(levels, dtype=torch.uint8)
    moves = st.floats(-1e4, 1e4, width=32)
    change = torch.tensor(data.draw(st.lists(moves, min_size=len(levels), max_size=len(levels))))
    box = Box(data.draw(st.floats(0.001, 0.4999)))
    for values in (change, change.double()):
        kept = box.project(stored, values)
        assert same_bytes(stored, kept)
        assert float(kept.abs().max()) <= box.radius + 1e-6
        again = box.project(stored, kept)
        assert torch.equal(kept, again)


def test_bytes_that_differ_are_noticed() -> None:
    stored = torch.tensor([0, 7, 255], dtype=torch.uint8)
    assert not same_bytes(stored, torch.tensor([0.0, 0.51, 0.0]))
    assert not same_bytes(stored, torch.tensor([-0.6, 0.0, 0.0]))
    assert not same_bytes(stored, torch.tensor([0.0, 0.0, 0.6]))


@pytest.mark.parametrize("classes", [2, 3])
def test_solves_with_the_retrained_hessians_equal_those_of_the_changed_objectives(classes: int) -> None:
    problem = small(classes)
    objective = problem.top()
    subject = Subject.of(objective, problem.network, problem.images)
    groups = [torch.tensor([0, 3]), torch.tensor([3, 9])]
    moved = [subject.examples(group, subject.features(subject.levels(group) + 1)) for group in groups]
    joined = tuple(torch.cat(column) for column in zip(*moved, strict=True))
    params = uw.retraining.replace(objective, groups, joined).params
    vectors = torch.randn(2, objective.p, dtype=DOUBLE)
    hessians = retrained_hessians(objective, params, groups, moved)
    solver = inverted(subject.influence.solver)
    for start in (None, torch.randn(2, objective.p, dtype=DOUBLE)):
        found = solve(hessians, vectors, solver, start, tolerance=1e-12)
        for row, group in enumerate(groups):
            levels = problem.images.double()
            levels[group] += 1
            changed = problem.top(levels)
            close(params[row], changed.params, rtol=1e-6, atol=1e-8)
            expected = uw.inverse.Dense().fit(changed).solve(vectors[row : row + 1]).x[0]
            close(found[row], expected, rtol=1e-6, atol=1e-7)


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
        (lambda: Aim(together=1), "together: give True or False; got 1"),  # type: ignore[arg-type]
        (lambda: Resources(batch_size=0), "batch_size: give a whole number of at least 1"),
        (lambda: Resources(keep=-1), "keep: give a whole number of at least 0"),
        (lambda: Resources(folder=3), "folder: give .*; got 3"),  # type: ignore[arg-type]
    ],
)
def test_settings_are_refused_when_they_are_made(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_finished_attacks_are_known_by_the_same_words_as_before() -> None:
    assert repr(Climb()) == "Climb(step=0.02, iterations=100, box=Box(radius=0.499))"


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


def test_stored_images_are_read_from_whole_numbers_of_any_type() -> None:
    levels = np.arange(48, dtype=np.int64).reshape(3, 4, 4)
    assert torch.equal(stored_images(levels, 3), torch.as_tensor(levels).to(torch.uint8))
    assert stored_images(levels.astype(np.float32), 3).dtype == torch.uint8
