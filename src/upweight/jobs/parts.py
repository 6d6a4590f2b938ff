"""What shards add up to: sums, lowest and largest scores, added in the order of shards whatever order they end in.

Parts are committed beside scores. Those of all shards up to one are merged into a single block, and then removed: so a
job keeps little more than its result, and a kill at any moment loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from upweight.linalg.extremes import Extremes
from upweight.solve_report import SolveReport, joined
from upweight.store.blocks import Blocks
from upweight.store.tensors import pack, unpack

PART, MERGED = "part-", "merged"
EXTREMES = {"largest": True, "smallest": False}
"""Whether they are in descending order."""
AT_ONCE = 16
"""Parts that wait for each other before they are merged."""


@dataclass(frozen=True)
class Part:
    """Of one shard, or of all shards before one.

    Attributes
    ----------
    tensors
        ``total``: Σ w∇ℓ ``[p]``, ``squares``: ‖w∇ℓ‖² ``[examples]``; ``lowest``, ``lowest_at`` ``[queries]``;
        ``largest``, ``largest_at``, ``smallest``, ``smallest_at`` ``[queries, k]``. Each if it is wanted.
    reports
        What solvers did, as `SolveReport.to_dict` has it.
    """

    tensors: dict[str, Tensor]
    reports: tuple[dict[str, Any], ...] = ()

    def packed(self) -> bytes:
        """As bytes."""
        return pack(self.tensors, {"reports": list(self.reports)})

    @classmethod
    def unpacked(cls, content: bytes) -> Part:
        """What `packed` gave."""
        tensors, facts = unpack(content)
        return cls(tensors, tuple(facts["reports"]))

    @property
    def report(self) -> SolveReport | None:
        """All solves as one."""
        return joined([SolveReport.from_dict(said) for said in self.reports]) if self.reports else None


Join = Callable[[Part, Part], Part]
"""Two parts as one, the first one's shards coming first."""


def scored(ours: Part, theirs: Part, top_k: int | None) -> Part:
    """Both parts of scores."""
    first, second, found = ours.tensors, theirs.tensors, dict[str, Tensor]()
    if "total" in first:
        found["total"] = first["total"] + second["total"]
        found["squares"] = torch.cat([first["squares"], second["squares"]])
    if "lowest" in first:
        lower = second["lowest"] < first["lowest"]
        for name in ("lowest", "lowest_at"):
            found[name] = torch.where(lower, second[name], first[name])
    if top_k is not None:
        for name, descending in EXTREMES.items():
            before, after = (Extremes(part[name], part[f"{name}_at"], descending) for part in (first, second))
            both = before.and_of(after, top_k)
            found[name], found[f"{name}_at"] = both.values, both.places
    return Part(found, _one([*ours.reports, *theirs.reports]))


def summed(ours: Part, theirs: Part) -> Part:
    """The sum of every tensor that one of both has."""
    first, second = ours.tensors, theirs.tensors
    both = {name: first[name] + second[name] for name in first if name in second}
    return Part({**first, **second, **both})


@dataclass
class Parts:
    """The parts of a job in its store.

    Attributes
    ----------
    join
        How two are one.
    name
        What their blocks' names begin with.
    merged
        All shards before ``upto`` as one.
    waiting
        Shards from there on whose parts are committed.
    """

    blocks: Blocks
    join: Join
    name: str = ""
    merged: Part | None = None
    upto: int = 0
    waiting: set[int] = field(default_factory=set)

    @classmethod
    def found(cls, blocks: Blocks, join: Join, name: str = "") -> Parts:
        """What a store has; damaged ones count as not there, and what they were merged into is begun anew."""
        merged, upto = None, 0
        mark = blocks.whole(name + MERGED).get(name + MERGED)
        if mark is not None:
            merged, upto = Part.unpacked(blocks.content(name + MERGED)), int(mark.facts["shards"])
        waiting = {int(block.removeprefix(name + PART)) for block in blocks.whole(name + PART)}
        for number in [number for number in waiting if number < upto]:  # of a kill after they were merged
            blocks.remove(_block(name, number))
        return cls(blocks, join, name, merged, upto, {number for number in waiting if number >= upto})

    def has(self, number: int) -> bool:
        """Whether a shard's part is there."""
        return number < self.upto or number in self.waiting

    def add(self, number: int, *, last: bool = False) -> None:
        """A shard's part has been committed; merge if enough of them wait, or none is to come."""
        if number < self.upto:  # it was done again for the sake of its scores
            self.blocks.remove(_block(self.name, number))
            return
        self.waiting.add(number)
        self.merge(0 if last else AT_ONCE)

    def merge(self, least: int = 0) -> None:
        """Merge all parts up to the first that is missing, if they are as many."""
        ready = _run_from(self.upto, self.waiting)
        if not ready or len(ready) < least:
            return
        found = self.merged
        for number in ready:
            part = Part.unpacked(self.blocks.content(_block(self.name, number)))
            found = part if found is None else self.join(found, part)
        assert found is not None
        self.blocks.commit(self.name + MERGED, found.packed(), facts={"shards": ready[-1] + 1})
        self.merged, self.upto = found, ready[-1] + 1
        self.waiting -= set(ready)
        for number in ready:
            self.blocks.remove(_block(self.name, number))

    def clear(self) -> None:
        """Remove what the result no longer needs."""
        self.blocks.remove(self.name + MERGED)
        for name in self.blocks.marks(self.name + PART):
            self.blocks.remove(name)


def commit(blocks: Blocks, number: int, part: Part, name: str = "") -> None:
    """Put a shard's part into the store."""
    blocks.commit(_block(name, number), part.packed())


def _block(name: str, number: int) -> str:
    return f"{name}{PART}{number:06d}"


def _run_from(first: int, numbers: set[int]) -> list[int]:
    run: list[int] = []
    while first + len(run) in numbers:
        run.append(first + len(run))
    return run


def _one(reports: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Several reports as one, as soon as there are two."""
    if len(reports) < 2:
        return tuple(reports)
    return (joined([SolveReport.from_dict(said) for said in reports]).to_dict(),)
