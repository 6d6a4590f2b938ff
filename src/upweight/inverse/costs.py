"""What the stages of an inverse's work cost: operations counted from the form of an example's factors, and bytes.

Products with a curvature run far below the speed of a matrix product, so their seconds come from one that is timed on a
few examples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from upweight.curvature import GGN, Fisher, Hessian, ObjectiveCurvature, RowCurvature
from upweight.curvature.assembled import pass_flops, products_flops, rows_flops, takes_rows
from upweight.curvature.objective import BY_VECTOR, product_numbers
from upweight.gradients.autograd import VECTORS_AT_ONCE
from upweight.objective import Objective

EIGEN_COST = 25
"""Multiplications of a symmetric eigendecomposition over r³."""
ASSUMED_ITERATIONS = 30
VECTORS = 11.0
"""Vectors that an iteration holds for each query: solution, residual, basis, directions, products, and copies."""
TIMED_FLOPS = 2e9
"""Operations of the product that is timed."""
TIMINGS = 5
MOST_SECONDS = 0.2
"""Spent on timing, once it was done twice."""


@dataclass(frozen=True)
class Stage:
    """A step of the work: multiplications and additions, and bytes at its peak.

    ``seconds``: where they were timed; None: those of a matrix product of as many operations.
    """

    name: str
    flops: float
    bytes: float
    seconds: float | None = field(default=None, compare=False)

    def seconds_at(self, speed: float) -> float:
        """Seconds, at so many operations a second where they weren't timed."""
        return self.flops / speed if self.seconds is None else self.seconds


@dataclass(frozen=True)
class Work:
    """Stages of an inverse's work, those at the limit of its iterations (() where there is none), what is assumed."""

    stages: tuple[Stage, ...]
    most: tuple[Stage, ...] = ()
    assumed: str = ""


@runtime_checkable
class Costed(Protocol):
    """An inverse, fitted or not, that knows its work."""

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """``timed``: seconds of products with the curvature are measured, which takes some of them."""
        ...


@dataclass(frozen=True, eq=False)
class Counts:
    """What the costs are counted from."""

    objective: Objective
    queries: int
    memory: int

    @cached_property
    def pass_flops(self) -> float:
        """Of one forward and backward over all training data: three products with every parameter at each position."""
        return pass_flops(self.objective)

    @cached_property
    def pair(self) -> int:
        """Multiplications of an inner product of two gradients."""
        objective = self.objective
        function = objective.engine.function
        return function.each(objective.params, objective.data.take([0])).pair_work

    @cached_property
    def sides(self) -> list[tuple[int, int]]:
        """Rows and columns of every block."""
        function = self.objective.engine.function
        return [(shape.rows, shape.columns) for shape in function.plan.shapes]

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return self.objective.dtype.itemsize

    @property
    def activations(self) -> float:
        """Bytes of a batch's factors."""
        engine = self.objective.engine
        return float(engine.held) * min(engine.pass_rows, self.objective.n) * self.item


def example_rows(objective: Objective, curvature: RowCurvature) -> int:
    """Rows that an example has in a curvature, if none of them is left out."""
    samples = curvature.samples if isinstance(curvature, Fisher) else 1
    if isinstance(curvature, GGN) or samples is None:
        return objective.outputs(objective.data.take([0])).numel()
    return samples


def diagonal_stages(counts: Counts) -> list[Stage]:
    """The work of `Diagonal`."""
    n, q, item, p = counts.objective.n, counts.queries, counts.item, counts.objective.p
    return [
        Stage("second moments", counts.pass_flops + 2.0 * n * p, 2 * p * item + counts.activations),
        Stage("queries", counts.pass_flops * q / n + q * p, 2.0 * q * p * item),
        scores_stage(counts),
    ]


def datainf_stages(counts: Counts, rows: int) -> list[Stage]:
    """The work of `DataInf`: one pass over its rows for all queries."""
    n, q, item, p = counts.objective.n, counts.queries, counts.item, counts.objective.p
    return [
        Stage("queries", counts.pass_flops * q / n, q * p * item),
        Stage(
            "pass over the rows",
            counts.pass_flops * rows / n + 2.0 * rows * p * (2 * q + 1),
            3.0 * q * p * item + counts.activations,
        ),
        scores_stage(counts),
    ]


def identity_stages(counts: Counts) -> list[Stage]:
    """The work of `Identity`: gradients and their products."""
    n, q, item, p = counts.objective.n, counts.queries, counts.item, counts.objective.p
    return [Stage("queries", counts.pass_flops * q / n, q * p * item), scores_stage(counts)]


def low_rank_stages(
    counts: Counts, curvature: str, rank: int, products: int, *, together: bool, residuals: bool, timed: bool = True
) -> list[Stage]:
    """The work of `Nystrom` and `Arnoldi`, of so many ``products``, all ``together`` or one after the other.

    ``residuals``: whether a product more measures each solution.
    """
    q, item, p = counts.queries, counts.item, counts.objective.p
    each = product_seconds(counts, curvature, products if together else 1) if timed else None
    one = 4.0 / 3 * counts.pass_flops
    found = [
        Stage(
            f"eigenvectors, by {products:,} products",
            products * one + 4.0 * products**2 * p + EIGEN_COST * products**3,
            4.0 * products * p * item + counts.activations,
            None if each is None else products * each,
        ),
        Stage("queries", counts.pass_flops * q / counts.objective.n + 4.0 * q * rank * p, 2.0 * q * p * item),
    ]
    if residuals:
        each = product_seconds(counts, curvature, q) if timed else None
        found.append(Stage("residuals", q * one, 3.0 * q * p * item, None if each is None else q * each))
    return [*found, scores_stage(counts)]


def scores_stage(counts: Counts) -> Stage:
    """Products of the queries' solutions with every training gradient, in one pass."""
    n, q, item, p = counts.objective.n, counts.queries, counts.item, counts.objective.p
    engine = counts.objective.engine
    batch = min(engine.rows_beside(engine.formed), n)
    passing = item * batch * (engine.held + engine.formed + 2 * q)
    return Stage("scores", counts.pass_flops + 2.0 * q * n * p, 2.0 * (q * p + q * n) * item + passing)


def product_bytes(counts: Counts, curvature: str) -> float:
    """Bytes that a product of all queries with a curvature of this name holds, beside vectors."""
    objective, engine = counts.objective, counts.objective.engine
    function = engine.function.linear
    if function is not None:
        numbers = function.features_count + function.curvature_numbers + function.outputs_count
        held = objective.n * numbers
        return float(held * counts.item) if held * counts.item <= engine.budget.kept else counts.activations
    if curvature not in BY_VECTOR:
        return counts.activations
    one = product_numbers(objective, curvature, counts.queries)
    return float(one * min(engine.rows_of(one), objective.n) * counts.item)


def iterative_stages(
    counts: Counts, passes: float, words: str = "", seconds_a_pass: float | None = None, curvature: str = ""
) -> list[Stage]:
    """The work of an iterative solver, for an assumed number of products with the curvature of all examples.

    ``words``: what the products are called; ``seconds_a_pass``: of one vector's product; ``curvature``: the matrix.
    """
    n, q, item, p = counts.objective.n, counts.queries, counts.item, counts.objective.p
    flops = passes * q * 4.0 / 3 * counts.pass_flops
    seconds = None if seconds_a_pass is None else passes * q * seconds_a_pass
    return [
        Stage("queries", counts.pass_flops * q / n, q * p * item),
        Stage(
            words or f"{passes} products",
            flops,
            VECTORS * q * p * item + product_bytes(counts, curvature),
            seconds,
        ),
        scores_stage(counts),
    ]


def dense_stages(counts: Counts, curvature: str, *, spectrum: bool, timed: bool = True) -> list[Stage]:
    """The work of `Dense`, of this curvature by name, by its Cholesky factor or its ``spectrum``."""
    objective = counts.objective
    n, q, item, p = objective.n, counts.queries, counts.item, objective.p
    seconds = None
    if objective.engine.function.linear is not None:
        matrix, name = 5.0 / 4 * n * p**2, "matrix"
    elif takes_rows(objective, curvature, counts.pass_flops):
        matrix, name = float(rows_flops(objective, counts.pass_flops) or 0), "matrix, by rows"
    else:
        matrix, name = products_flops(objective, counts.pass_flops), f"matrix, by {p:,} products"
        each = product_seconds(counts, curvature, VECTORS_AT_ONCE) if timed else None
        seconds = None if each is None else p * each
    factor = Stage("eigenvectors", EIGEN_COST * p**3, 24.0 * p * p) if spectrum else None
    return [
        Stage(name, matrix, 2.0 * p * p * item, seconds),
        factor or Stage("Cholesky factor", p**3 / 3, 3.0 * p * p * item),
        Stage("queries", counts.pass_flops * q / n + 2.0 * q * p * p, 2.0 * q * p * item),
        scores_stage(counts),
    ]


def product_seconds(counts: Counts, curvature: str, vectors: int, examples: int | None = None) -> float | None:
    """Seconds of one vector's product with the Hessian or GGN of all examples, ``vectors`` at a time; None of others.

    Timed on a batch of ``examples`` (default: as a pass has them), fewer where that would be too much work.
    """
    objective = counts.objective
    if curvature not in (Hessian.name, GGN.name) or (curvature == GGN.name and not objective.engine.function.split):
        return None
    k = min(vectors, VECTORS_AT_ONCE)
    most = TIMED_FLOPS * objective.n / (4.0 / 3 * k * counts.pass_flops)
    rows = max(1, int(min(examples or objective.batch_size or objective.data.rows, objective.n, most)))
    product = _product(objective, curvature, torch.arange(rows))
    units = torch.ones(k, objective.p, dtype=objective.dtype, device=objective.device) / objective.p**0.5
    best, spent = float("inf"), 0.0
    for number in range(TIMINGS):
        if number > 1 and spent > MOST_SECONDS:
            break
        start = time.perf_counter()
        float(product(units)[0, 0])  # waits for a device to finish
        taken = time.perf_counter() - start
        best, spent = min(best, taken), spent + taken
    return best * objective.n / rows / k


def _product(objective: Objective, curvature: str, positions: Tensor) -> Callable[[Tensor], Tensor]:
    """Of some examples; outputs and features that all products share are made before."""
    function = objective.engine.function.linear
    if function is None:
        return ObjectiveCurvature(objective, curvature, positions).apply
    features, _, shape = function.output_curvature(objective.params, objective.data.take(positions))
    return lambda units: function.product(features, shape, units)


def iterative_work(
    counts: Counts,
    curvature: str,
    assumed: int | None = None,
    limit: int | None = None,
    *,
    products: int = 1,
    timed: bool = True,
) -> Work:
    """Of a solver by iterations, some assumed and a ``limit`` of them, each so many ``products`` with the curvature."""
    each = product_seconds(counts, curvature, counts.queries) if timed else None
    steps = products * min(assumed or ASSUMED_ITERATIONS, limit or assumed or ASSUMED_ITERATIONS)
    stages = tuple(iterative_stages(counts, steps, seconds_a_pass=each, curvature=curvature))
    if limit is None:
        return Work(stages, (), f"{steps:,} products assumed")
    most = tuple(iterative_stages(counts, products * limit, seconds_a_pass=each, curvature=curvature))
    return Work(stages, most, f"{steps:,} products assumed, {products * limit:,} at most")


def work_of(counts: Counts, inverse: Any, *, timed: bool = True) -> Work:
    """What an inverse says of its work; of one that says nothing, `ASSUMED_ITERATIONS` products."""
    if isinstance(inverse, Costed):
        return inverse.work(counts, timed=timed)
    return iterative_work(counts, name_of_curvature(inverse), timed=timed)


def name_of_curvature(inverse: Any) -> str:
    """The matrix that an inverse is fitted to, or will be."""
    operator = getattr(inverse, "operator", None)
    return str(getattr(operator if operator is not None else getattr(inverse, "curvature", None), "name", ""))
