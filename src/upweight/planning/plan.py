"""What an inverse will cost, before anything runs.

Counted in multiplications, from the form of the factors of two examples (`upweight.planning.costs`); seconds come from
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

from upweight.inverse import CG, EKFAC, KFAC, LSMR, Dense, Dual, Inverse, LiSSA, Solver
from upweight.inverse.advice import lsmr_limit
from upweight.inverse.dense import DenseSolver
from upweight.inverse.dual import DualSolver
from upweight.inverse.eigenbasis import EigenSolver
from upweight.inverse.interface import default_tolerance
from upweight.inverse.kfac import FactoredSolver
from upweight.inverse.lissa import DEEPEST, DEFAULT_DEPTH, LiSSASolver
from upweight.objective import Objective
from upweight.planning.choice import may_be_singular, most_rows
from upweight.planning.costs import (
    Counts,
    Stage,
    dense_stages,
    dual_stages,
    ekfac_stages,
    iterative_stages,
    product_seconds,
)

DEFAULT_QUERIES = 100
ASSUMED_ITERATIONS = 30
ASSUMED_OF_LSMR = 100
"""It converges with the condition, where conjugate gradients do with its root."""


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
    """

    inverse: Inverse | Solver
    reason: str
    stages: tuple[Stage, ...]
    speed: float
    most: tuple[Stage, ...] = ()

    @property
    def flops(self) -> float:
        """Operations of all stages."""
        return sum(stage.flops for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Estimated seconds: of products with a curvature as timed on a few examples, else of matrix products."""
        return sum(stage.seconds_at(self.speed) for stage in self.stages)

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
        table = Table(title=f"{type(self.inverse).__name__}: {self.reason}", title_justify="left", min_width=60)
        for name in ("stage", "GFLOP", "MiB", "seconds"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        sums = [Stage("all", self.flops, self.peak_bytes, self.seconds)]
        if self.most:
            peak = max(stage.bytes for stage in self.most)
            sums.append(Stage("all, at most", self.most_flops, peak, self.most_seconds))
        for stage in (*self.stages, *sums):
            seconds = f"{stage.seconds_at(self.speed):,.2f}"
            cells = (f"{stage.flops / 1e9:,.1f}", f"{stage.bytes / 2**20:,.0f}", seconds)
            table.add_row(stage.name, *cells, end_section=stage is self.stages[-1])
        return table

    def __str__(self) -> str:
        console = Console(width=100, record=True, file=StringIO())
        console.print(self.table())
        return console.export_text()

    __repr__ = __str__


def plan(objective: Objective, inverse: Inverse | Solver, reason: str, queries: int, memory: int) -> Plan:
    """The stages of an inverse's work, those of fitting included where that is done already."""
    counts = Counts(objective, queries, memory)
    stages, most, words = stages_of(counts, inverse)
    reason = f"{reason}; {words}" if words else reason
    return Plan(inverse, reason, tuple(stages), product_speed(objective), tuple(most))


def stages_of(counts: Counts, inverse: Inverse | Solver, *, timed: bool = True) -> tuple[list[Stage], list[Stage], str]:
    """The stages, those at the limit of iterations where there is one, and what of it is assumed.

    ``timed``: seconds of products are measured, which takes some of them.
    """
    if isinstance(inverse, DualSolver):
        return dual_stages(counts, inverse.rank), [], ""
    if isinstance(inverse, Dual):
        rows = most_rows(counts, inverse.curvature)
        return dual_stages(counts, min(rows, inverse.rows or rows)), [], ""
    if isinstance(inverse, EKFAC | KFAC | EigenSolver | FactoredSolver):
        return ekfac_stages(counts), [], ""
    if isinstance(inverse, Dense | DenseSolver):
        settings = inverse.settings if isinstance(inverse, DenseSolver) else inverse
        damped = inverse.damping != 0
        singular = settings.singular == "pseudo" and not damped and may_be_singular(counts.objective)
        spectrum = settings.method == "eigen" or settings.indefinite or singular
        return dense_stages(counts, name_of_curvature(inverse), spectrum=spectrum, timed=timed), [], ""
    if isinstance(inverse, LiSSA | LiSSASolver):
        return lissa_stages(counts, inverse, timed=timed)
    return _iterative(counts, inverse, timed=timed)


def _iterative(counts: Counts, inverse: Inverse | Solver, *, timed: bool) -> tuple[list[Stage], list[Stage], str]:
    each = product_seconds(counts, name_of_curvature(inverse), counts.queries) if timed else None
    settings = getattr(inverse, "settings", inverse)
    limit, a_step, assumed = None, 1, ASSUMED_ITERATIONS
    if isinstance(settings, CG):
        limit = settings.max_iterations
    elif isinstance(settings, LSMR):
        a_step, assumed = 2, ASSUMED_OF_LSMR
        tolerance = settings.tolerance or default_tolerance(counts.objective.dtype)
        limit = settings.max_iterations or lsmr_limit(counts.objective.p, tolerance)
    assumed = a_step * min(assumed, limit or assumed)
    words = f"{assumed:,} products assumed"
    stages = iterative_stages(counts, assumed, seconds_a_pass=each)
    if limit is None:
        return stages, [], words
    return (
        stages,
        iterative_stages(counts, a_step * limit, seconds_a_pass=each),
        f"{words}, {a_step * limit:,} at most",
    )


def lissa_stages(
    counts: Counts, inverse: LiSSA | LiSSASolver, *, timed: bool = True
) -> tuple[list[Stage], list[Stage], str]:
    """The work of `LiSSA`; its depth is known once it is fitted."""
    settings = inverse.settings if isinstance(inverse, LiSSASolver) else inverse
    n = counts.objective.n
    batch = min(settings.batch_size or n, n)
    runs = 1 if batch == n else settings.repeats
    each = product_seconds(counts, name_of_curvature(inverse), counts.queries, batch) if timed else None

    def stages(steps: int) -> list[Stage]:
        words = f"{steps:,} steps of {batch:,} examples"
        return iterative_stages(counts, steps * batch / n, words, seconds_a_pass=each)

    if settings.depth is not None:
        return stages(runs * settings.depth), [], f"depth {settings.depth:,} × {runs} repeats"
    assumed, most = min(runs * DEFAULT_DEPTH, DEEPEST), max(DEEPEST, runs)
    return (
        stages(assumed),
        stages(most),
        f"{assumed:,} steps of all repeats assumed, {most:,} at most (fitted, it knows its depth)",
    )


def name_of_curvature(inverse: Inverse | Solver) -> str:
    """The matrix that it is fitted to, or will be."""
    operator = getattr(inverse, "operator", None)
    return str(getattr(operator if operator is not None else getattr(inverse, "curvature", None), "name", ""))


def product_speed(objective: Objective, size: int = 512) -> float:
    """Operations a second of a square matrix product, the best of a few."""
    a = torch.ones(size, size, dtype=objective.dtype, device=objective.device)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        float((a @ a)[0, 0])  # waits for a device to finish
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
