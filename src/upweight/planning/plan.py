"""What an inverse will cost, before anything runs.

Counted in multiplications, from the form of the factors of two examples (`upweight.inverse.costs`); seconds come from
the speed of one matrix product measured on the spot, or of a product with the curvature of a few examples, so they are
orders of magnitude, not promises.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import StringIO

import torch
from rich.console import Console
from rich.table import Table

from upweight import notebooks
from upweight.inverse import Inverse, Solver
from upweight.inverse.costs import (
    Counts,
    Stage,
    work_of,
)
from upweight.objective import Objective

DEFAULT_QUERIES = 100
FITTING = ("matrix", "Cholesky factor", "eigenvectors", "rows", "Gram matrix", "Kronecker factors", "second moments")
"""What the names of stages begin with that are done once, whatever the queries."""

COLUMNS = ("stage", "GFLOP", "MiB", "seconds")


@dataclass(frozen=True)
class Shards:
    """How the work would be divided, and what it would leave on disk.

    Attributes
    ----------
    count, width
        Shards, and training examples of each.
    workers
        How many work at a time.
    memory
        Bytes that a worker holds of a shard's scores, beside what a stage does.
    disk, most_disk
        Bytes of the finished store without names and columns, and at most on the way.
    """

    count: int
    width: int
    workers: int
    memory: int
    disk: int
    most_disk: int

    def __str__(self) -> str:
        return (
            f"{self.count:,} shards of {self.width:,} examples, {self.workers} at a time, "
            f"{self.memory / 2**20:,.0f} MiB of scores in each; on disk {self.disk / 2**20:,.1f} MiB, at most "
            f"{self.most_disk / 2**20:,.1f} MiB on the way"
        )


@dataclass(frozen=True)
class Plan:
    """What would be done.

    Attributes
    ----------
    inverse
        The inverse chosen, or given.
    reason
        Why, in words.
    stages
        The work.
    speed
        Floating-point operations a second of a matrix product here, in the objective's precision.
    most
        The work if an iteration goes on to its limit; () where there is none.
    shards
        How it is divided, where scores go into a store.
    """

    inverse: Inverse | Solver
    reason: str
    stages: tuple[Stage, ...]
    speed: float
    most: tuple[Stage, ...] = ()
    shards: Shards | None = None

    @property
    def flops(self) -> float:
        """Operations of all stages."""
        return sum(stage.flops for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Estimated seconds: of products with a curvature as timed on a few examples, else of matrix products."""
        return sum(stage.seconds_at(self.speed) for stage in self.stages)

    @property
    def fitting_seconds(self) -> float:
        """Those of `seconds` that are spent once, whatever the queries."""
        return sum(stage.seconds_at(self.speed) for stage in self.stages if stage.name.startswith(FITTING))

    @property
    def most_flops(self) -> float:
        """Operations at the limit of iterations."""
        return sum(stage.flops for stage in self.most or self.stages)

    @property
    def most_seconds(self) -> float:
        """Estimated seconds at the limit of iterations."""
        return sum(stage.seconds_at(self.speed) for stage in self.most or self.stages)

    @property
    def peak_bytes(self) -> float:
        """Bytes of the largest stage, beyond the model and the data."""
        return max(stage.bytes for stage in self.stages)

    def table(self) -> Table:
        """The stages as a table."""
        table = Table(
            title=f"{type(self.inverse).__name__}: {self.reason}",
            title_justify="left",
            min_width=60,
            caption=None if self.shards is None else str(self.shards),
            caption_justify="left",
        )
        for name in COLUMNS:
            table.add_column(name, justify="left" if name == COLUMNS[0] else "right")
        for number, cells in enumerate(self._cells(), 1):
            table.add_row(*cells, end_section=number == len(self.stages))
        return table

    def _cells(self) -> list[tuple[str, ...]]:
        """Of every stage and of their sums, as text."""
        sums = [Stage("all", self.flops, self.peak_bytes, self.seconds)]
        if self.most:
            peak = max(stage.bytes for stage in self.most)
            sums.append(Stage("all, at most", self.most_flops, peak, self.most_seconds))
        return [
            (
                stage.name,
                f"{stage.flops / 1e9:,.1f}",
                f"{stage.bytes / 2**20:,.0f}",
                f"{stage.seconds_at(self.speed):,.2f}",
            )
            for stage in (*self.stages, *sums)
        ]

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        said = [] if self.shards is None else [str(self.shards)]
        body = notebooks.table(COLUMNS, self._cells())
        return notebooks.page(f"{type(self.inverse).__name__}: {self.reason}", said, body)

    def __str__(self) -> str:
        console = Console(width=100, record=True, file=StringIO())
        console.print(self.table())
        return console.export_text()

    __repr__ = __str__


def plan(objective: Objective, inverse: Inverse | Solver, reason: str, queries: int, memory: int) -> Plan:
    """The stages of an inverse's work, those of fitting included where that is done already."""
    counts = Counts(objective, queries, memory)
    work = work_of(counts, inverse)
    reason = f"{reason}; {work.assumed}" if work.assumed else reason
    return Plan(inverse, reason, work.stages, product_speed(objective), work.most)


def product_speed(objective: Objective, size: int = 512) -> float:
    """Operations a second of a square matrix product, the best of a few."""
    a = torch.ones(size, size, dtype=objective.dtype, device=objective.device)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        float((a @ a)[0, 0])  # waits for a device to finish
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
