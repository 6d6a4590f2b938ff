"""How far a job is, who works on it, and what its store takes, read without touching it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from upweight.jobs.parts import MERGED, PART
from upweight.jobs.run import LOG
from upweight.jobs.shards import Shard, cut
from upweight.store.array import ScoreArray
from upweight.store.backend import Backend, Local
from upweight.store.blocks import MARKERS, Blocks
from upweight.store.columns import blocks_of
from upweight.store.description import described, result
from upweight.stored.names import EXTREMES, SCORES


@dataclass(frozen=True)
class State:
    """A job as its store tells it.

    Attributes
    ----------
    said
        The store's description.
    outcome
        What the finished job said of its result; None while it isn't.
    shards, shards_done, examples, examples_done
        Training examples count once, whatever the number of queries.
    holder
        The process that works on it now, where the file system tells.
    workers
        That the last run began with; None if none did.
    rate
        Examples a second of the last run; None before its first shard.
    used
        Bytes on disk.
    """

    said: dict[str, Any]
    outcome: dict[str, Any] | None
    shards: int
    shards_done: int
    examples: int
    examples_done: int
    holder: str | None
    workers: int | None
    rate: float | None
    used: int

    @property
    def words(self) -> str:
        """``finished``, ``running`` or ``stopped``."""
        if self.outcome is not None:
            return "finished"
        return "stopped" if self.holder is None else "running"

    @property
    def seconds_left(self) -> float | None:
        """By the rate of the last run; None where it isn't known."""
        if self.outcome is not None:
            return 0.0
        return None if self.rate is None else (self.examples - self.examples_done) / self.rate


def state(place: Backend) -> State:
    """Read it.

    Raises
    ------
    InputError
        If there is no store, or its description was altered.
    """
    said = described(place)
    assert said is not None
    outcome = result(place)
    array = ScoreArray(**said["array"])
    shards = cut(array.examples, array.width)
    done = shards if outcome is not None else _done(place, shards)
    workers, rate = _last_run(place)
    return State(
        said=said,
        outcome=outcome,
        shards=len(shards),
        shards_done=len(done),
        examples=array.examples,
        examples_done=sum(shard.stop - shard.start for shard in done),
        holder=place.holder() if isinstance(place, Local) else None,
        workers=workers,
        rate=rate,
        used=_used(place),
    )


def damaged(place: Backend, now: State) -> dict[str, str]:
    """Blocks that are damaged or missing, all of them read: what is wrong with each, by name."""
    blocks = Blocks(place)
    names = {key[len(MARKERS) : -len(".json")] for key in place.keys(MARKERS) if key.endswith(".json")}
    names |= {name for column in _columns(now.said) for name in blocks_of(column)}
    if now.outcome is not None:
        names |= {f"{SCORES}-{number:06d}" for number in range(now.shards)} if now.said["top_k"] is None else {EXTREMES}
    faults = {name: blocks.fault(name) for name in sorted(names)}
    return {name: fault for name, fault in faults.items() if fault is not None}


def _columns(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [said["ids"], said["query_ids"], *said["columns"].values()]


def _done(place: Backend, shards: list[Shard]) -> list[Shard]:
    blocks = Blocks(place)
    mark = blocks.mark(MERGED)
    upto = 0 if mark is None else int(mark.facts["shards"])
    waiting = {int(name.removeprefix(PART)) for name in blocks.marks(PART)}
    return [shard for shard in shards if shard.number < upto or shard.number in waiting]


def _last_run(place: Backend) -> tuple[int | None, float | None]:
    """Workers of the last run, and examples a second from its begin to its last shard."""
    workers, begun, last, examples = None, 0.0, 0.0, 0
    for line in (place.read(LOG) or b"").splitlines():
        try:
            said = json.loads(line)
            if said["event"] == "begun":
                workers, begun, examples = int(said["workers"]), float(said["time"]), 0
            elif said["event"] == "shard":
                last, examples = float(said["time"]), examples + int(said["examples"])
        except (ValueError, KeyError, TypeError):  # a line that a kill cut off
            continue
    return workers, examples / (last - begun) if examples and last > begun else None


def _used(place: Backend) -> int:
    if not isinstance(place, Local):
        return sum(mark.size for mark in Blocks(place).marks().values())
    sizes = [place.size(os.path.relpath(os.path.join(folder, name), place.path)) for folder, _, names in os.walk(place.path) for name in names]  # noqa: E501  # fmt: skip
    return sum(size or 0 for size in sizes)
