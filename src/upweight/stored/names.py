"""What the blocks of a job's store are called, and how many of them are there."""

from __future__ import annotations

from typing import Any

from upweight.store.array import ScoreArray
from upweight.store.backend import Backend
from upweight.store.blocks import Blocks

SCORES, EXTREMES = "scores", "extremes"
PART, MERGED = "part-", "merged"
BASES, SIDES, SQUARES, FACTORS = "bases", "sides", "squares", "factors"
PASSING = (PART, MERGED, BASES, SIDES, SQUARES, FACTORS)
"""How names begin of blocks that only a job that goes on has a use for."""
"""Blocks of a job that goes on."""


def progress(place: Backend, said: dict[str, Any]) -> tuple[int, int]:
    """Shards that are done, and all of them."""
    blocks = Blocks(place)
    mark = blocks.mark(MERGED)
    upto = 0 if mark is None else int(mark.facts["shards"])
    waiting = [int(name.removeprefix(PART)) for name in blocks.marks(PART)]
    return upto + sum(number >= upto for number in waiting), ScoreArray(**said["array"]).shards
