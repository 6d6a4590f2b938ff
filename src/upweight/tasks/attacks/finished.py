"""Finished batches of attacks on disk: an interrupted run resumes with what it had committed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from upweight.data import Data, tensors
from upweight.errors import InputError, UpweightWarning, warn
from upweight.retraining.fingerprint import UnknownContentError, fingerprint
from upweight.store.kept_work import Folder
from upweight.tasks.attacks.climb import Outcome, Task
from upweight.tasks.attacks.levers import Ranked
from upweight.tasks.attacks.settings import Climb
from upweight.tasks.attacks.subject import Subject


@dataclass(frozen=True)
class Shard:
    """A batch of attacks by its content: equal keys are equal work."""

    key: str

    @classmethod
    def of(cls, digest: str, settings: Climb, tasks: list[Task], keep: int) -> Shard:
        """The attacks of ``tasks``; their changes are part of the work up to attack number ``keep``."""
        parts = [digest.encode(), repr(settings).encode() + _rule(tasks[0].targets)]
        for task in tasks:
            parts += [f"{task.number < keep}".encode(), _bytes(task.targets), _bytes(task.levers)]
        return cls(hashlib.sha256(b"/".join(parts)).hexdigest()[:40])


@dataclass(frozen=True)
class Kept:
    """Where attacks are kept, and by what they are known; nowhere without a folder.

    Attributes
    ----------
    folder
        Of finished batches and rankings.
    content
        The `digest` of all that these attacks depend on.
    """

    folder: Folder | None = None
    content: str = ""

    @classmethod
    def of(cls, subject: Subject, queries: Data, folder: Folder | None) -> Kept:
        """Nowhere, with a warning, if attacks couldn't be known again."""
        if folder is None:
            return cls()
        try:
            return cls(folder, digest(subject, queries))
        except UnknownContentError as error:
            warn(
                f"folder: the loss or the network can't be told from another by what it uses ({error}), so no attack "
                "is kept or read; give what that holds as numbers, text or arrays",
                UpweightWarning,
            )
            return cls()

    def ranking(self, candidates: int, group: Int[Tensor, " t"], rank: Callable[[], Ranked]) -> Ranked:
        """The levers of a group of queries: read where they are on disk, else ranked and kept."""
        if self.folder is None:
            return rank()
        name = b"/".join([self.content.encode(), str(candidates).encode() + _rule(group), _bytes(group)])
        shard = Shard(f"levers-{hashlib.sha256(name).hexdigest()[:40]}")
        known = self.folder.read(shard)
        if known is not None:
            with _told(self.folder, shard):
                positions, norms, at_features = torch.load(io.BytesIO(known), weights_only=True)
            return positions, norms, at_features
        found = rank()
        buffer = io.BytesIO()
        torch.save(found, buffer)
        self.folder.commit(shard, buffer.getvalue())
        return found


def digest(subject: Subject, queries: Data) -> str:
    """What all attacks on these queries depend on: θ, loss, training data, network, images and queries.

    Raises
    ------
    UnknownContentError
        If the loss or the network uses something whose content can't be told.
    """
    objective = subject.objective
    found = hashlib.sha256(f"{fingerprint([objective.loss, subject.network])} {subject.dtype}".encode())
    arrays: Iterable[Tensor] = [objective.params, objective.l2, objective.weights, subject.images]
    for array in [*arrays, *_everything(objective.data), *_everything(queries)]:
        found.update(_bytes(array))
    return found.hexdigest()


def pack(outcomes: list[Outcome], keep: int, seconds: float) -> bytes:
    """A finished batch, and what it took, as the content of its file; changes of attacks below ``keep`` alone."""
    rows = [
        {
            "probabilities": outcome.probabilities,
            "flipped": outcome.flipped,
            "change": outcome.change if outcome.number < keep else None,
        }
        for outcome in outcomes
    ]
    buffer = io.BytesIO()
    torch.save({"attacks": rows, "seconds": seconds}, buffer)
    return buffer.getvalue()


def kept_outcomes(folder: Folder, shard: Shard, tasks: list[Task]) -> tuple[list[Outcome], float] | None:
    """The outcomes of a batch that is on disk, in the order of the tasks, and the seconds they took.

    Raises
    ------
    InputError
        If its file is whole and holds something else.
    """
    content = folder.read(shard)
    if content is None:
        return None
    nothing = torch.empty(0)
    with _told(folder, shard):
        read = dict(torch.load(io.BytesIO(content), weights_only=True))
        found = [
            Outcome(
                task.number,
                row["probabilities"],
                row["flipped"],
                nothing if row["change"] is None else row["change"],
            )
            for task, row in zip(tasks, read["attacks"], strict=True)
        ]
        return found, float(read["seconds"])


@contextmanager
def _told(folder: Folder, shard: Shard) -> Iterator[None]:
    """Whatever goes wrong in reading a whole file as one message."""
    try:
        yield
    except Exception as error:
        raise InputError(
            f"folder: {folder.place(shard)} holds no finished attacks; move it away, or give another folder"
        ) from error


def _rule(targets: Int[Tensor, " t"]) -> bytes:
    """How the targets of an attack are weighed: part of what its result depends on."""
    return b"" if len(targets) == 1 else b"unit gradients of those still right"


def _everything(data: Data) -> list[Tensor]:
    return [leaf for _, batch in data.batches(None, None) for leaf in tensors(batch)]


def _bytes(array: Any) -> bytes:
    return torch.as_tensor(array).detach().cpu().contiguous().numpy().tobytes()
