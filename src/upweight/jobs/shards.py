"""The training examples of a job, cut into shards of one width."""

from __future__ import annotations

from dataclasses import dataclass

TARGET = 2**25
"""Bytes of a shard's scores, about."""
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


def usual_width(examples: int, bytes_each: int, rows: int, workers: int) -> int:
    """Examples of a shard: whole passes of ``rows``, a few tens of megabytes of results, some for each worker."""
    most = max(TARGET // max(bytes_each, 1), 1)
    width = min(most, -(-examples // (4 * workers)) if workers > 1 else examples)
    width = max(width - width % rows if width > rows else min(rows, examples), -(-examples // MOST), 1)
    return -(-examples // -(-examples // width))  # as many in each, that little is padded
