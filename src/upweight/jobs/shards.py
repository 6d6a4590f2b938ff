"""The training examples of a job, cut into shards of one width."""

from __future__ import annotations

from dataclasses import dataclass

TARGET = 2**25
"""Bytes of a shard's scores that are kept, about."""
PASSING = 2**27
"""Bytes of a shard's scores of which few are kept."""
USUAL, EACH = 32, 4
"""Shards of a job that fills as many passes, and of each worker: what is lost by a kill is a small part of all."""
MOST = 10_000
"""Shards of a job."""


@dataclass(frozen=True)
class Shard:
    """Some training examples: those at ``start`` to ``stop`` of a job's."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Its number, as blocks' names have it."""
        return f"{self.number:06d}"

    def __str__(self) -> str:
        return f"shard {self.number} (training examples {self.start:,} to {self.stop - 1:,})"


def cut(examples: int, width: int) -> list[Shard]:
    """Shards of at most ``width`` examples, in order."""
    starts = range(0, examples, width)
    return [Shard(number, start, min(start + width, examples)) for number, start in enumerate(starts)]


def usual_width(examples: int, bytes_each: int, rows: int, workers: int, *, dense: bool) -> int:
    """Examples of a shard: whole passes of ``rows``, a few tens of megabytes of scores, some shards for each worker.

    ``dense``: whether all scores are kept.
    """
    most = max((TARGET if dense else PASSING) // max(bytes_each, 1), 1)
    width = min(most, -(-examples // max(USUAL, EACH * workers)))
    width = max(width - width % rows if width > rows else min(rows, examples, most), 1)
    if workers > 1:  # a pass may be smaller, that nobody is without work
        width = min(width, -(-examples // (EACH * workers)))
    width = max(width, -(-examples // MOST))
    return -(-examples // -(-examples // width))  # as many in each, that little is padded
