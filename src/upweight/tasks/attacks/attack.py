"""How easily could the training data be poisoned? Training-set attacks as an audit of one's own models.

Training images are changed so little that their stored 8-bit files stay the same, byte for byte, and yet the model
retrained on the changed values errs on a chosen query (Koh & Liang 2017, section 5.2).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from upweight import kinds, scalars
from upweight.data import Data
from upweight.gradients.denormals import flushed
from upweight.influence import Influence
from upweight.influence.queries import query_names
from upweight.kept import random_states_kept
from upweight.messages import InputError, UpweightWarning, warn
from upweight.objective import Objective
from upweight.optional import require
from upweight.progress import track
from upweight.retraining.fingerprint import UnknownContentError
from upweight.store.kept_work import Folder
from upweight.tasks.attacks.box import Box
from upweight.tasks.attacks.climb import Climb, Outcome, Task, climb
from upweight.tasks.attacks.finished import Shard, digest, kept_outcomes, kept_ranking, pack
from upweight.tasks.attacks.levers import Levers, levers
from upweight.tasks.attacks.result import Attack
from upweight.tasks.attacks.subject import Network, Subject, chosen_targets


@random_states_kept()
def attack(
    subject: Objective | Influence,
    network: Network,
    images: Any,
    queries: Any,
    *,
    count: int = 1,
    targets: Any = None,
    together: bool = False,
    positions: Any = None,
    step: float = 0.02,
    iterations: int = 100,
    radius: float = 0.499,
    candidates: int = 24,
    batch_size: int = 16,
    keep: int = 8,
    query_ids: Sequence[Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
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
    count
        Training images that each attack changes: the ``count`` of largest ‖∇ₓ I_pert‖₁.
    targets
        Positions of the queries to attack (default: all that are predicted rightly).
    together
        One attack on all targets in place of one on each; every target that is still right counts alike.
    positions
        The training images to change, ``[attacks, count]`` (default: the strongest levers).
    step
        α of each signed gradient step, in levels. The paper's is .02.
    iterations
        Steps at most; an attack ends as soon as all of its targets err.
    radius
        Largest change of a level; below .5, so that rounding gives the stored bytes back.
    candidates
        Levers whose ‖∇ₓ I_pert‖₁ is computed, chosen by the same norm at the features.
    batch_size
        Images that go through the network together; bounds the memory.
    keep
        Attacks whose changed images are in the result.
    folder
        Where finished batches of attacks are kept, each whole or not at all; the same call resumes from there.

    Raises
    ------
    InputError
        If an argument is impossible: among others images outside 0 … 255, a box that permits no change, a target that
        is predicted wrongly already, labels of one class, a network that doesn't give the top's features.
    """
    kinds.check(attack, locals())
    require("tables", "tasks.attack", "pandas")
    started = time.perf_counter()
    box = Box(radius)
    settings = Climb(step, iterations, box)
    _refuse_settings(settings, count, candidates, batch_size, keep)
    place = Folder.given(folder)
    if place is not None:
        place.check()
    with flushed():
        found = Subject.of(subject, network, images)
        data = found.objective.queries(queries)
        names = query_names(data, query_ids)
        if count > found.objective.n:
            raise InputError(f"count: {count} images to change, but there are {found.objective.n} training examples")
        right, wrong = chosen_targets(found.objective, data, targets)
        groups = [right] if together else list(right.split(1))
        given = None if positions is None else _checked(found.objective, positions, len(groups), count)
        place, content = _kept_by(found, data, place)
        most = min(max(candidates, count), found.objective.n)
        ranked = levers(found, data, groups, most, batch_size, partial(kept_ranking, place, content, most))
        chosen = ranked.first(count) if given is None else given
        tasks = [Task(number, group, chosen[number]) for number, group in enumerate(groups)]
        ranking = time.perf_counter() - started
        outcomes, climbing = _run(found, data, tasks, settings, max(batch_size // count, 1), keep, place, content)
    return _result(found, groups, chosen, outcomes, ranked, wrong, settings, names, keep, ranking + climbing)


def _kept_by(subject: Subject, queries: Data, folder: Folder | None) -> tuple[Folder | None, str]:
    """Where attacks are kept, and by what they are known; nowhere if they couldn't be known again."""
    if folder is None:
        return None, ""
    try:
        return folder, digest(subject, queries)
    except UnknownContentError as error:
        warn(
            f"folder: the loss or the network can't be told from another by what it uses ({error}), so no attack is "
            "kept or read; give what that holds as numbers, text or arrays",
            UpweightWarning,
        )
        return None, ""


def _refuse_settings(settings: Climb, count: int, candidates: int, batch_size: int, keep: int) -> None:
    scalars.number("step (in levels of 0 … 255)", settings.step, above=0)
    for name, value, least in (
        ("iterations", settings.iterations, 1),
        ("count", count, 1),
        ("candidates", candidates, 1),
        ("batch_size", batch_size, 1),
        ("keep", keep, 0),
    ):
        scalars.whole(name, value, least)


def _checked(objective: Objective, positions: Any, attacks: int, count: int) -> Int[Tensor, "attacks count"]:
    try:
        shape = np.shape(positions)
    except ValueError:  # rows of unequal length
        shape = (len(positions),)
    if shape != (attacks, count):
        raise InputError(f"positions: give shape ({attacks}, {count}), attacks × count; got {shape}")
    return torch.stack([objective.positions(row) for row in positions])


def _run(
    subject: Subject,
    queries: Data,
    tasks: list[Task],
    settings: Climb,
    size: int,
    keep: int,
    folder: Folder | None,
    content: str,
) -> tuple[list[Outcome], float]:
    """The outcomes of all tasks, in order, and the seconds they took; batches that are on disk are read."""
    seconds: list[float] = []

    def each() -> Iterator[Outcome]:
        for first in range(0, len(tasks), size):
            batch = tasks[first : first + size]
            shard = Shard.of(content, settings, batch, keep)
            known = None if folder is None else kept_outcomes(folder, shard, batch)
            if known is not None:
                outcomes, spent = known
                seconds.append(spent)
                yield from outcomes
                continue
            begin, done = time.perf_counter(), []
            for outcome in climb(subject, queries, batch, settings):
                done.append(outcome)
                yield outcome
            seconds.append(time.perf_counter() - begin)
            if folder is not None:
                folder.commit(shard, pack(sorted(done, key=_number), keep, seconds[-1]))

    # Changes that nobody asked for are dropped at once.
    found = [
        outcome if outcome.number < keep else replace(outcome, change=_NONE)
        for outcome in track(each(), "attacking", total=len(tasks))
    ]
    return sorted(found, key=_number), sum(seconds)


def _number(outcome: Outcome) -> int:
    return outcome.number


_NONE = torch.empty(0)


def _result(
    subject: Subject,
    groups: list[Tensor],
    chosen: Int[Tensor, "attacks count"],
    outcomes: list[Outcome],
    ranked: Levers,
    wrong: int,
    settings: Climb,
    names: np.ndarray,
    keep: int,
    seconds: float,
) -> Attack:
    kept = min(keep, len(outcomes))
    longest = max(len(outcome.probabilities) for outcome in outcomes)
    paths = [
        torch.nn.functional.pad(path, (0, 0, 0, longest - len(path)), value=torch.nan)
        for path in (outcome.probabilities for outcome in outcomes)
    ]
    shape = (0, chosen.shape[1], *subject.images.shape[1:])
    return Attack(
        targets=torch.stack(groups),
        positions=chosen,
        flipped=torch.stack([outcome.flipped for outcome in outcomes]),
        steps=torch.tensor([len(outcome.probabilities) - 1 for outcome in outcomes]),
        probabilities=torch.stack(paths),
        changes=torch.stack([outcome.change for outcome in outcomes[:kept]]) if kept else torch.zeros(shape),
        stored=subject.images[chosen[:kept]],
        levers=ranked,
        already_wrong=wrong,
        settings=settings,
        ids=subject.objective.ids,
        query_ids=names,
        seconds=seconds,
    )
