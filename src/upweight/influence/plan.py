"""Which inverse serves an objective when the user doesn't say, and what it will cost, before anything runs.

Counted in multiplications, from the form of the factors of two examples; seconds come from the speed of one matrix
product measured on the spot, so they are orders of magnitude, not promises.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from io import StringIO

import torch
from rich.console import Console
from rich.table import Table

from upweight.curvature import GGN, Curvature, EmpiricalFisher, Fisher, Hessian, RowCurvature
from upweight.curvature.rows import trace_share
from upweight.gradients import FactoredFunction
from upweight.gradients.terms import Outer
from upweight.inverse import CG, EKFAC, KFAC, Dense, Dual, Inverse, MeanEigenvalue, Solver
from upweight.inverse.dense import DenseSolver
from upweight.inverse.dual import DEFAULT_ROWS, DualSolver, fitting
from upweight.inverse.eigenbasis import EigenSolver
from upweight.inverse.kfac import FactoredSolver
from upweight.losses import CrossEntropy, Loss
from upweight.messages import UpweightWarning, warn
from upweight.objective import Objective

DENSE_UP_TO = 4000
"""p up to which the whole matrix is cheaper than iterating: 128 MB and a second in float64."""
SINGULAR_DAMPING = 1e-3
"""Multiple of the mean eigenvalue that damps a matrix that may be singular, where it isn't factorised."""
DEFAULT_MEMORY = 2**31
DEFAULT_QUERIES = 100
EIGEN_COST = 25
"""Multiplications of a symmetric eigendecomposition over r³."""
SECONDS_OF_WORK = 2e11
"""Operations that no machine minds."""
SEPARABLE = 10
"""p over the multiplications of a pair, above which gradients are products of two short vectors: one position each."""
FAR_FROM_FITTED = 0.3
"""Mean Gini impurity 1 − Σp² of the predictions, over its largest value, from which the penalty harms EK-FAC.

Measured .04 and .06 on networks that it helps, .5 and more on those that it harms."""
PREDICTIONS_LOOKED_AT = 256
LEAST_SHARE = 0.6
"""Share of the trace of the GGN that kept rows must carry; where examples are still far from fitted, none stand out."""
DUAL_OVER_PASSES = 400
"""Work of the dual, in forward and backward passes over the training data, up to which it is preferred to EK-FAC."""


@dataclass(frozen=True)
class Stage:
    """A step of the work: multiplications and additions, and bytes at its peak."""

    name: str
    flops: float
    bytes: float


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
    """

    inverse: Inverse | Solver
    reason: str
    stages: tuple[Stage, ...]
    speed: float

    @property
    def flops(self) -> float:
        """Operations of all stages."""
        return sum(stage.flops for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Estimated seconds, at the speed of matrix products."""
        return self.flops / self.speed

    @property
    def peak_bytes(self) -> float:
        """Bytes of the largest stage, beyond the model and the data."""
        return max(stage.bytes for stage in self.stages)

    def table(self) -> Table:
        """The stages as a table."""
        table = Table(title=f"{type(self.inverse).__name__}: {self.reason}", title_justify="left", min_width=60)
        for name in ("stage", "GFLOP", "MiB", "seconds"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        total = Stage("all", self.flops, self.peak_bytes)
        for stage in (*self.stages, total):
            cells = (f"{stage.flops / 1e9:,.1f}", f"{stage.bytes / 2**20:,.0f}", f"{stage.flops / self.speed:.2f}")
            table.add_row(stage.name, *cells, end_section=stage is self.stages[-1])
        return table

    def __str__(self) -> str:
        console = Console(width=100, record=True, file=StringIO())
        console.print(self.table())
        return console.export_text()

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class Counts:
    """What the costs are counted from."""

    objective: Objective
    queries: int
    memory: int

    @cached_property
    def pass_flops(self) -> float:
        """Of one forward and backward over all training data: three products with every parameter at each position."""
        objective = self.objective
        function = objective.function
        if not isinstance(function, FactoredFunction):
            return 6.0 * objective.p * objective.n
        one = function.factors(objective.params, objective.data.take([0]), compacted=False)
        terms = [term for block in one.blocks for term in block.terms]
        products = sum(term.left.shape[1] * math.prod(term.shape) for term in terms if isinstance(term, Outer))
        return 6.0 * max(products, 1) * objective.n

    @cached_property
    def pair(self) -> int:
        """Multiplications of an inner product of two gradients."""
        objective = self.objective
        function = objective.function
        if not isinstance(function, FactoredFunction):
            return objective.p
        return function.factors(objective.params, objective.data.take([0])).pair_work

    @cached_property
    def sides(self) -> list[tuple[int, int]]:
        """Rows and columns of every block."""
        function = self.objective.function
        if not isinstance(function, FactoredFunction):
            return []
        return [(shape.rows, shape.columns) for shape in function.plan.shapes]

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return self.objective.dtype.itemsize

    @property
    def activations(self) -> float:
        """Bytes of a batch's factors."""
        function = self.objective.function
        peak = function.peak if isinstance(function, FactoredFunction) else self.objective.p
        return 3.0 * peak * self.objective.pass_rows * self.item


def choose(counts: Counts) -> tuple[Inverse, str]:
    """An inverse and the reason for it in words."""
    objective = counts.objective
    if objective.is_linear:
        reason = "outputs are linear in θ, so the Hessian of a convex loss is exact and needs no damping"
        if objective.p <= DENSE_UP_TO:
            return Dense(
                Hessian(), 0.0, singular="pseudo"
            ), f"{reason}; p={objective.p:,} ≤ {DENSE_UP_TO:,}: factorised"
        if not _may_be_singular(objective):
            return CG(Hessian(), 0.0), f"{reason}; p={objective.p:,}: conjugate gradients"
        reason = (
            "outputs are linear in θ, and without l2 the Hessian of a softmax is singular: damped by "
            f"{SINGULAR_DAMPING:g} of its mean eigenvalue; p={objective.p:,}: conjugate gradients"
        )
        warn(f"inverse: {reason}. Give l2 > 0 or an inverse of your own", UpweightWarning)
        return CG(Hessian(), MeanEigenvalue(SINGULAR_DAMPING)), reason
    if not isinstance(objective.function, FactoredFunction):
        return _without_factors(objective)
    curvature, why = row_curvature(objective)
    rows = min(DEFAULT_ROWS, most_rows(counts, curvature))
    against = _against_rows(counts, curvature, rows)
    if not against:
        exact = "exact" if not isinstance(curvature, GGN) else f"the {rows:,} rows that carry most of its trace"
        reason = f"{why}; {exact}, inverted in the space of its rows ({objective.p:,} parameters)"
        return Dual(curvature, "auto", rows=rows, memory=counts.memory), reason
    factor = Fisher() if isinstance(objective.loss, Loss) and objective.loss.is_likelihood else EmpiricalFisher()
    unsure = impurity(objective)
    if unsure < FAR_FROM_FITTED:
        return EKFAC(factor, "auto"), f"{why}; {against}: EK-FAC"
    reason = (
        f"{why}; {against}: EK-FAC; without the penalty, as predictions are far from sure ({unsure:.0%}): scores rank "
        "well, their sizes say little"
    )
    return EKFAC(factor, "auto", penalized=False), reason


def _may_be_singular(objective: Objective) -> bool:
    """Whether a shift of all outputs that a softmax doesn't see is free of penalty, or nothing is penalised."""
    free = objective.l2 == 0
    return bool(free.all()) or (isinstance(objective.loss, CrossEntropy) and bool(free.any()))


def _against_rows(counts: Counts, curvature: RowCurvature, rows: int) -> str:
    """Why the curvature is not to be inverted in the space of its rows; "" if it is."""
    objective = counts.objective
    if not isinstance(curvature, GGN) and counts.pair * SEPARABLE > objective.p:
        return "rows of one draw each say little of gradients summed over many positions"
    if rows < DEFAULT_ROWS // 2 and rows < objective.n:
        return f"only {rows:,} rows' inner products fit {counts.memory / 2**30:.2g} GiB"
    allowed = max(DUAL_OVER_PASSES * counts.pass_flops, SECONDS_OF_WORK)
    if sum(stage.flops for stage in dual_stages(counts, rows)) > allowed:
        return f"the rows' inner products would cost too much at p={objective.p:,}"
    if isinstance(curvature, GGN):
        share = trace_share(objective, rows)
        if share < LEAST_SHARE:
            return f"the {rows:,} largest rows carry only {share:.0%} of the trace"
    return ""


def impurity(objective: Objective) -> float:
    """How unsure a classifier is of its training data: the mean of 1 − Σp² over that of equal probabilities.

    Of at most `PREDICTIONS_LOOKED_AT` examples, spread evenly; 0 where the loss knows no probabilities.
    """
    if not isinstance(objective.loss, CrossEntropy):
        return 0.0
    chosen = torch.linspace(0, objective.n - 1, min(PREDICTIONS_LOOKED_AT, objective.n)).long()
    gini, places = 0.0, 0
    for part in chosen.split(objective.pass_rows):
        batch = objective.data.take(part)
        outputs = objective.outputs(batch)
        p = outputs.softmax(-1)
        kept = objective.loss.mass(outputs, objective.loss.targets(batch)) > 0
        gini += float((1 - (p**2).sum(-1))[kept].sum())
        places += int(kept.sum())
    classes = p.shape[-1]
    return gini / max(places, 1) / (1 - 1 / classes) if classes > 1 else 0.0


def _without_factors(objective: Objective) -> tuple[Inverse, str]:
    curvature: Curvature = GGN() if objective.function.split else Hessian()
    reason = f"no factors can be read off this model: the {curvature.name}, damped by a tenth of its mean eigenvalue"
    if objective.p <= DENSE_UP_TO:
        return Dense(curvature, MeanEigenvalue(0.1)), f"{reason}; p={objective.p:,} ≤ {DENSE_UP_TO:,}: factorised"
    return CG(curvature, MeanEigenvalue(0.1)), f"{reason}; p={objective.p:,}: conjugate gradients"


def row_curvature(objective: Objective) -> tuple[RowCurvature, str]:
    """Rows that serve best: the GGN's where an example has few outputs, else sampled ones, else its own gradient's."""
    loss = objective.loss
    if not isinstance(loss, Loss):
        return EmpiricalFisher(), "your own loss has no outputs to split at: the empirical Fisher"
    outputs = objective.outputs(objective.data.take([0]))
    if outputs.numel() <= 64:
        return GGN(), "a non-convex model: the GGN"
    if loss.is_likelihood:
        return Fisher(
            samples=1
        ), f"{outputs.numel():,} outputs an example: the Fisher matrix by one sampled target each"
    return EmpiricalFisher(), f"{outputs.numel():,} outputs an example: the empirical Fisher"


def most_rows(counts: Counts, curvature: RowCurvature) -> int:
    """Rows that there are, or whose Gram matrix fits."""
    objective = counts.objective
    outputs = objective.outputs(objective.data.take([0])).numel() if isinstance(curvature, GGN) else 1
    return min(objective.n * outputs, fitting(counts.memory, len(objective.l2.unique()), objective.dtype))


def dual_stages(counts: Counts, rows: int) -> list[Stage]:
    """The work of `Dual`."""
    n, q, w, item, p = counts.objective.n, counts.queries, counts.pair, counts.item, counts.objective.p
    pairs = 2.0 * (q * n + q * rows + rows * n) * w + 2.0 * q * rows * n
    dense = 2.0 * q * p * (2 * rows + n)
    kept = rows * min(p, 4 * w) * item
    return [
        Stage("rows", counts.pass_flops * rows / n, kept + counts.activations),
        Stage("Gram matrix", 2.0 * rows**2 * w, 2 * rows**2 * item + kept),
        Stage("Cholesky factor", rows**3 / 3, 3 * rows**2 * item),
        Stage("queries", counts.pass_flops * q / n + 2.0 * q * rows**2, q * min(p, 4 * w) * item + rows**2 * item),
        Stage("scores", counts.pass_flops + min(pairs, dense), (q * n + rows * counts.objective.pass_rows) * item),
    ]


def ekfac_stages(counts: Counts) -> list[Stage]:
    """The work of `EKFAC`."""
    n, q, item, p = counts.objective.n, counts.queries, counts.item, counts.objective.p
    sides, numbers = counts.sides, sum(r * r + c * c for r, c in counts.sides)
    rotations = sum(2.0 * r * c * (r + c) for r, c in sides)
    return [
        Stage("Kronecker factors", counts.pass_flops + 2.0 * n * numbers, 3 * numbers * item + counts.activations),
        Stage("eigenvectors", sum(EIGEN_COST * (r**3 + c**3) for r, c in sides), 24.0 * numbers),
        Stage(
            "second moments", counts.pass_flops + 2.0 * n * (numbers + p), (numbers + 2 * p) * item + counts.activations
        ),
        Stage("queries", counts.pass_flops * q / n + 2 * q * rotations, 3.0 * q * p * item),
        Stage("scores", counts.pass_flops + 2.0 * q * n * p, (q * p + q * n) * item + counts.activations),
    ]


def iterative_stages(counts: Counts, iterations: int) -> list[Stage]:
    """The work of an iterative solver, for an assumed number of products with the curvature."""
    n, q, item, p = counts.objective.n, counts.queries, counts.item, counts.objective.p
    return [
        Stage("queries", counts.pass_flops * q / n, q * p * item),
        Stage(f"{iterations} products", iterations * q * 4.0 / 3 * counts.pass_flops, 6.0 * q * p * item),
        Stage("scores", counts.pass_flops + 2.0 * q * n * p, (q * p + q * n) * item + counts.activations),
    ]


def dense_stages(counts: Counts) -> list[Stage]:
    """The work of `Dense`."""
    n, q, item, p = counts.objective.n, counts.queries, counts.item, counts.objective.p
    return [
        Stage("matrix", 4.0 / 3 * p * counts.pass_flops, 2.0 * p * p * item),
        Stage("Cholesky factor", p**3 / 3, 3.0 * p * p * item),
        Stage("queries", counts.pass_flops * q / n + 2.0 * q * p * p, 2.0 * q * p * item),
        Stage("scores", counts.pass_flops + 2.0 * q * n * p, (q * p + q * n) * item + counts.activations),
    ]


ASSUMED_ITERATIONS = 30


def plan(objective: Objective, inverse: Inverse | Solver, reason: str, queries: int, memory: int) -> Plan:
    """The stages of an inverse's work, those of fitting included where that is done already."""
    counts = Counts(objective, queries, memory)
    if isinstance(inverse, DualSolver):
        stages = dual_stages(counts, inverse.rank)
    elif isinstance(inverse, Dual):
        rows = most_rows(counts, inverse.curvature)
        stages = dual_stages(counts, min(rows, inverse.rows or rows))
    elif isinstance(inverse, EKFAC | KFAC | EigenSolver | FactoredSolver):
        stages = ekfac_stages(counts)
    elif isinstance(inverse, Dense | DenseSolver):
        stages = dense_stages(counts)
    else:
        stages = iterative_stages(counts, ASSUMED_ITERATIONS)
        reason = f"{reason}; {ASSUMED_ITERATIONS} products assumed"
    return Plan(inverse, reason, tuple(stages), product_speed(objective))


def product_speed(objective: Objective, size: int = 512) -> float:
    """Operations a second of a square matrix product, the best of a few."""
    a = torch.ones(size, size, dtype=objective.dtype, device=objective.device)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        float((a @ a)[0, 0])  # waits for a device to finish
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
