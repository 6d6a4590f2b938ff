"""What shards add up to: sums, lowest and largest scores, added in the order of shards whatever order they end in.

Parts are committed beside scores. Those of all shards up to one are merged into a single block, and then removed: so a
job keeps little more than its result, and a kill at any moment loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from upweight.linalg.extremes import Extremes, merged
from upweight.solve_report import SolveReport, joined
from upweight.store.blocks import BLOCKS, Blocks
from upweight.store.tensors import pack, unpack
from upweight.stored.names import MERGED, PART

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


Join = Callable[[Sequence[Part]], Part]
"""Several parts as one, in the order of their shards; the same however many are joined at a time."""


def scored(several: Sequence[Part], top_k: int | None) -> Part:
    """Parts of scores."""
    found = reduce(_sum, several)
    if top_k is None:
        return found
    tensors = dict(found.tensors)
    for name, descending in EXTREMES.items():
        each = [Extremes(part.tensors[name], part.tensors[f"{name}_at"], descending) for part in several]
        one = merged(each, top_k)
        tensors[name], tensors[f"{name}_at"] = one.values, one.places
    return Part(tensors, found.reports)


def summed(several: Sequence[Part]) -> Part:
    """The sum of every tensor that one of them has."""
    total: dict[str, Tensor] = {}
    for part in several:
        total |= {name: total[name] + value if name in total else value for name, value in part.tensors.items()}
    return Part(total)


def _sum(first: Part, second: Part) -> Part:
    """All of two but the extremes."""
    ours, theirs, found = first.tensors, second.tensors, dict[str, Tensor]()
    if "total" in ours and "total" in theirs:  # a shard done by who knew them already has none
        found["total"] = ours["total"] + theirs["total"]
        found["squares"] = torch.cat([ours["squares"], theirs["squares"]])
    if "lowest" in ours:
        lower = theirs["lowest"] < ours["lowest"]
        found["lowest"] = torch.where(lower, theirs["lowest"], ours["lowest"])
        found["lowest_at"] = torch.where(lower, theirs["lowest_at"], ours["lowest_at"])
    return Part(found, _one([*first.reports, *second.reports]))


@dataclass
class Parts:
    """The parts of a job in its store.

    Attributes
    ----------
    join
        How several are one.
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
        several = [Part.unpacked(self.blocks.content(_block(self.name, number))) for number in ready]
        found = self.join(several if self.merged is None else [self.merged, *several])
        self.merged, self.upto = found, ready[-1] + 1
        # Beside the earlier one, which its marker names until the new one is there whole.
        mark = self.blocks.commit(
            self.name + MERGED,
            found.packed(),
            key=f"{BLOCKS}{self.name}{MERGED}-{self.upto:06d}",
            facts={"shards": self.upto},
        )
        _sweep(self.blocks, self.name + MERGED, mark.key)
        self.waiting -= set(ready)
        for number in ready:
            self.blocks.remove(_block(self.name, number))

    def clear(self) -> None:
        """Remove what the result no longer needs."""
        for prefix in (self.name + MERGED, self.name + PART):
            cleared(self.blocks, prefix)


def commit(blocks: Blocks, number: int, part: Part, name: str = "") -> None:
    """Put a shard's part into the store."""
    blocks.commit(_block(name, number), part.packed())


def _block(name: str, number: int) -> str:
    return f"{name}{PART}{number:06d}"


def cleared(blocks: Blocks, prefix: str) -> None:
    """Remove all blocks whose names begin so, and what a kill left of them."""
    for name in blocks.names(prefix):
        blocks.remove(name)
    _sweep(blocks, prefix)


def _sweep(blocks: Blocks, prefix: str, but: str = "") -> None:
    """Remove the bytes of blocks of such names that no marker can name any more."""
    for key in blocks.backend.keys(BLOCKS):
        if key.startswith(BLOCKS + prefix) and key != but:
            blocks.backend.delete(key)


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
