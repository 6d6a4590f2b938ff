"""How easily could the training data be poisoned? Training-set attacks as an audit of one's own models.

Training images are changed so little that their stored 8-bit files stay the same, byte for byte, and yet the model
retrained on the changed values errs on a chosen query (Koh & Liang 2017, section 5.2).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import kinds
from upweight.data import Data
from upweight.errors import InputError
from upweight.gradients.denormals import flushed
from upweight.influence import Influence
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import require
from upweight.progress import track
from upweight.quantities.queries import query_names
from upweight.store.kept_work import Folder
from upweight.tasks.attacks import climb as climbing
from upweight.tasks.attacks.climb import Outcome, Task
from upweight.tasks.attacks.finished import Kept, Shard, kept_outcomes, pack
from upweight.tasks.attacks.levers import ranked
from upweight.tasks.attacks.result import Attack
from upweight.tasks.attacks.settings import Aim, Climb, LeverChoice, Resources
from upweight.tasks.attacks.subject import Network, Subject, chosen_targets


@random_states_kept()
def attack(
    subject: Objective | Influence,
    network: Network,
    images: Any,
    queries: Any,
    *,
    aim: Aim | None = None,
    levers: LeverChoice | None = None,
    climb: Climb | None = None,
    resources: Resources | None = None,
) -> Attack:
    """Try to make a model err on queries by changing a few training images within what an 8-bit file can't show.

    An audit of one's own model: how many predictions hang on the invisible part of one or a few training images, and on
    which. The top is retrained to its optimum after every step, so a flip is a fact, not a prediction.

    Parameters
    ----------
    subject
        The trained top: a linear last layer with CrossEntropy or BinaryLogistic on the features of ``network``, or an
        `Influence` of it. Use float64.
    network
        The frozen feature network, differentiable, from stored images as float levels 0 … 255 to the top's features;
        scaling and normalisation belong to it. Left as it is.
    images
        The stored training images, uint8 ``[train, …]`` in the network's layout.
    queries
        Examples in the form of the top's training data: features and labels.
    aim
        Which queries to flip, one by one or all at once (default: ``Aim()``, each that is predicted rightly).
    levers
        Which training images each attack changes, and how many (default: ``LeverChoice()``, the strongest one).
    climb
        Step, steps at most, and the box (default: ``Climb()``, the paper's).
    resources
        Memory, and where finished attacks are kept (default: ``Resources()``, nowhere).

    Raises
    ------
    InputError
        If an argument is impossible: among others images outside 0 … 255, a target that is predicted wrongly already,
        labels of one class, a network that doesn't give the top's features.
    """
    kinds.check(attack, locals())
    require("tables", "tasks.attack", "pandas")
    started = time.perf_counter()
    aim, choice = aim or Aim(), levers or LeverChoice()
    settings, resources = climb or Climb(), resources or Resources()
    folder = Folder.given(resources.folder)
    if folder is not None:
        folder.check()
    with flushed():
        found = Subject.of(subject, network, images)
        n = found.objective.n
        data = found.objective.queries(queries)
        names = query_names(data, aim.query_ids)
        if choice.count > n:
            raise InputError(f"count: {choice.count} images to change, but there are {n} training examples")
        right, wrong = chosen_targets(found.objective, data, aim.targets)
        groups = [right] if aim.together else list(right.split(1))
        given = None
        if choice.positions is not None:
            given = _checked(found.objective, choice.positions, (len(groups), choice.count))
        kept = Kept.of(found, data, folder)
        most = min(max(choice.candidates, choice.count), n)
        strongest = ranked(found, data, groups, most, resources.batch_size, partial(kept.ranking, most))
        positions = strongest.first(choice.count) if given is None else given
        tasks = [Task(number, group, positions[number]) for number, group in enumerate(groups)]
        ranking = time.perf_counter() - started
        outcomes, spent = _run(found, data, tasks, settings, resources, kept)
    return Attack(
        targets=torch.stack(groups),
        positions=positions,
        flipped=torch.stack([outcome.flipped for outcome in outcomes]),
        steps=torch.tensor([len(outcome.probabilities) - 1 for outcome in outcomes]),
        probabilities=_paths(outcomes),
        changes=_changes(outcomes[: resources.keep], (choice.count, *found.images.shape[1:])),
        stored=found.images[positions[: resources.keep]],
        levers=strongest,
        already_wrong=wrong,
        settings=settings,
        ids=found.objective.ids,
        query_ids=names,
        seconds=ranking + spent,
    )


def _checked(objective: Objective, positions: Sequence[Any], wanted: tuple[int, int]) -> Int[Tensor, "attacks count"]:
    """The training images that were asked for."""
    try:
        shape: tuple[int, ...] = np.shape(positions)
    except ValueError:  # rows of unequal length
        shape = (len(positions),)
    if shape != wanted:
        raise InputError(f"positions: give shape {wanted}, attacks × count; got {shape}")
    return torch.stack([objective.positions(row, "positions") for row in positions])


def _run(
    subject: Subject, queries: Data, tasks: list[Task], settings: Climb, resources: Resources, kept: Kept
) -> tuple[list[Outcome], float]:
    """The outcomes of all tasks, in order, and the seconds they took; batches that are on disk are read."""
    seconds: list[float] = []
    keep = resources.keep
    size = max(resources.batch_size // len(tasks[0].levers), 1)

    def each() -> Iterator[Outcome]:
        for first in range(0, len(tasks), size):
            batch = tasks[first : first + size]
            shard = Shard.of(kept.content, settings, batch, keep)
            known = None if kept.folder is None else kept_outcomes(kept.folder, shard, batch)
            if known is not None:
                outcomes, spent = known
                seconds.append(spent)
                yield from outcomes
                continue
            begin, done = time.perf_counter(), []
            for outcome in climbing.climb(subject, queries, batch, settings):
                done.append(outcome)
                yield outcome
            seconds.append(time.perf_counter() - begin)
            if kept.folder is not None:
                kept.folder.commit(shard, pack(sorted(done, key=_number), keep, seconds[-1]))

    # Changes that nobody asked for are dropped at once.
    found = [
        outcome if outcome.number < keep else replace(outcome, change=_NONE)
        for outcome in track(each(), "attacking", total=len(tasks))
    ]
    return sorted(found, key=_number), sum(seconds)


def _number(outcome: Outcome) -> int:
    return outcome.number


_NONE = torch.empty(0)


def _paths(outcomes: list[Outcome]) -> Float[Tensor, "attacks steps t"]:
    """p(true label) of each attack's targets, nan after its last step."""
    longest = max(len(outcome.probabilities) for outcome in outcomes)
    return torch.stack(
        [
            torch.nn.functional.pad(path, (0, 0, 0, longest - len(path)), value=torch.nan)
            for path in (outcome.probabilities for outcome in outcomes)
        ]
    )


def _changes(kept: list[Outcome], shape: tuple[int, ...]) -> Float[Tensor, "kept count ..."]:
    return torch.stack([outcome.change for outcome in kept]) if kept else torch.zeros((0, *shape))
