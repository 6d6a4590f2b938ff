"""(AᵀA + diag(λ) + δI)⁻¹ in the space of the rows of A: exact, whatever p (Woodbury; spec: oracle 16).

With D = diag(λ) + δI, D⁻¹ − D⁻¹Aᵀ(I + AD⁻¹Aᵀ)⁻¹AD⁻¹. The Gram matrix AAᵀ comes from factors, so that layers of
any width cost in + out per pair, and so do the scores themselves: G(q,z) − G(q,A)(I + G(A,A))⁻¹G(A,z), G in the metric
D⁻¹. Where λ differs between parameters there is a Gram matrix for each value, so another damping costs one
Cholesky factor and no pass over the data.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import GGN, Fisher, Operator, RowCurvature, Rows, RowsOperator
from upweight.curvature.kronecker import refuse_not_finite
from upweight.errors import InputError
from upweight.gradients import Gradients
from upweight.gradients.blocks import Scorer, Seen, concatenated, unseen
from upweight.inverse.costs import Counts, Work, example_rows
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.dual_costs import dual_stages
from upweight.inverse.effective import quadrature
from upweight.inverse.interface import Solution, SolveReport, checked, default_tolerance
from upweight.linalg.rows import relative, smallest_quotient
from upweight.linalg.traces import Spectrum
from upweight.objective import Objective
from upweight.progress import track

DEFAULT_MEMORY = 2**31
DEFAULT_ROWS = 2500
"""Rows kept of a GGN by default: on the benchmarks more gain a hundredth of LDS and cost the square."""


@dataclass(frozen=True)
class Dual:
    """Exact damped inverse of a curvature given by rows.

    Parameters
    ----------
    curvature
        ``GGN()``: its spectral rows; ``Fisher(samples)``: sampled rows; ``EmpiricalFisher()``: gradients.
    damping
        δ > 0 unless every parameter has l2 > 0.
    rows
        For the GGN: how many rows are kept, those that carry most of the trace (None: all, exact).
    memory
        Bytes for Gram matrices, their factor and the rows' factors.

    Raises
    ------
    InputError
        If the memory is too small, with the number of rows that would fit; if λ + δ is 0 for a parameter; if a
        gradient is NaN, with its training example.
    """

    curvature: RowCurvature = field(default_factory=GGN)
    _: KW_ONLY
    damping: Damping = "auto"
    rows: int | None = DEFAULT_ROWS
    memory: int = DEFAULT_MEMORY

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if self.rows is not None:
            scalars.whole("rows", self.rows)
        scalars.whole("memory, in bytes", self.memory)

    def fit(self, target: Objective | Operator) -> DualSolver:
        """Make the rows and their Gram matrices.

        Raises
        ------
        InputError
            If it is given an operator rather than an objective, whose curvature it takes by rows; if the rows' Gram
            matrices don't fit ``memory``, with the number of rows that would; if a gradient is NaN, with its training
            example.
        """
        if not isinstance(target, Objective):
            raise InputError(
                "inverse.Dual: needs an objective, whose curvature it takes by rows; for an operator use CG"
            )
        rows = self.curvature.rows(target, self.rows)
        levels, groups = metric_levels(target)
        need = gram_bytes(len(rows), len(levels), target.dtype)
        if need > self.memory:
            raise InputError(
                f"memory: {len(rows):,} rows need {need / 2**30:.2g} GiB for their Gram matrix and its factor, "
                f"{self.memory / 2**30:.2g} GiB are allowed; up to {fitting(self.memory, len(levels), target.dtype):,} "
                "rows fit (rows=…), or give more memory, or use inverse.EKFAC()"
            )
        kept = DualRows(rows, groups, self.memory - need)
        gram = kept.gram()
        if not torch.isfinite(gram.sum(dtype=torch.float64)):  # entry by entry it would be copied
            refuse_not_finite(rows)  # says whose gradient it is
        operator = RowsOperator(target, rows, rows.name)
        damping = resolve(self.damping, operator, lambda: row_spectrum(gram.sum(0)))
        return DualSolver(operator, damping, kept, levels, gram)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        rows = used_rows(counts, self.curvature, self.rows)
        return Work(tuple(dual_stages(counts, rows, spectral=has_spectrum(self.curvature))))


def metric_levels(objective: Objective) -> tuple[Float[Tensor, " g"], Float[Tensor, "g p"]]:
    """The different values of λ, and an indicator of the parameters of each."""
    levels, which = objective.l2.unique(return_inverse=True)
    return levels, torch.nn.functional.one_hot(which, len(levels)).T.to(objective.dtype)


def gram_bytes(rows: int, levels: int, dtype: torch.dtype) -> int:
    """Bytes of the Gram matrices, the damped one, its factor and one temporary."""
    return (levels + 3) * rows**2 * dtype.itemsize


def fitting(memory: int, levels: int, dtype: torch.dtype) -> int:
    """Most rows whose Gram matrices fit."""
    return int((memory / ((levels + 3) * dtype.itemsize)) ** 0.5)


def has_spectrum(curvature: RowCurvature) -> bool:
    """Whether rows are eigenvectors of the loss's Hessian in the outputs, of which the largest can be kept alone."""
    return isinstance(curvature, GGN) or (isinstance(curvature, Fisher) and curvature.samples is None)


def used_rows(counts: Counts, curvature: RowCurvature, limit: int | None) -> int:
    """Rows that `Dual` takes: all that there are, or, of those with a spectrum, at most ``limit`` and what fits."""
    objective = counts.objective
    rows = objective.n * example_rows(objective, curvature)
    if not has_spectrum(curvature):
        return rows
    return min(rows, limit or rows, fitting(counts.memory, len(objective.l2.unique()), objective.dtype))


def row_spectrum(gram: Float[Tensor, "r r"]) -> Spectrum:
    """The spectrum of AᵀA from AAᵀ, which has the same eigenvalues but zeros."""
    return quadrature(lambda rows: rows @ gram, len(gram), gram.dtype, gram.device)


class DualRows:
    """The rows as factors: kept where they fit, else made again block by block."""

    def __init__(self, rows: Rows, groups: Float[Tensor, "g p"], memory: int):
        self.rows, self.groups, self.memory = rows, groups, memory
        first = rows.factors(torch.arange(min(2, len(rows))), compacted=True)
        row_bytes = first.numbers * rows.objective.dtype.itemsize
        self.size = int(min(max(memory // (3 * max(row_bytes, 1)), 64), rows.objective.engine.pass_rows))
        self.keeps = len(rows) * row_bytes <= memory

    @cached_property
    def kept(self) -> Gradients:
        """All rows at once."""
        return concatenated([factors for _, factors in self.rows.blocks(self.size, compacted=True)])

    def blocks(self) -> list[Tensor]:
        """Numbers of the rows, block by block."""
        return list(torch.arange(len(self.rows)).split(len(self.rows) if self.keeps else self.size))

    def block(self, chosen: Tensor) -> Gradients:
        """The factors of a block."""
        return self.kept if self.keeps else self.rows.factors(chosen, compacted=True)

    def grams(self, first: Gradients, second: Gradients) -> Float[Tensor, "g m n"]:
        """Inner products of two sets, by value of λ."""
        if len(self.groups) == 1:
            return first.gram(second)[None]
        return torch.stack([first.scaled(group).gram(second) for group in self.groups])

    def gram(self) -> Float[Tensor, "g r r"]:
        """Inner products of all rows."""
        count, dtype = len(self.rows), self.rows.objective.dtype
        if self.keeps:
            return self.grams(self.kept, self.kept)
        total = torch.empty(len(self.groups), count, count, dtype=dtype, device=self.rows.objective.device)
        blocks = self.blocks()
        for number, chosen in enumerate(track(blocks, "Gram matrix of the rows")):
            here = self.block(chosen)
            for other in blocks[number:]:
                part = self.grams(here, here if other is chosen else self.block(other))
                total[:, chosen[0] : chosen[-1] + 1, other[0] : other[-1] + 1] = part
                total[:, other[0] : other[-1] + 1, chosen[0] : chosen[-1] + 1] = part.mT
        return total


@dataclass(frozen=True, eq=False)
class DualSolver:
    """A Gram matrix of rows with the factor of I + AD⁻¹Aᵀ."""

    operator: Operator
    damping: float
    dual: DualRows
    levels: Float[Tensor, " g"]
    gram: Float[Tensor, "g r r"]

    @cached_property
    def scale(self) -> Float[Tensor, " g"]:
        """1/(λ+δ) by value of λ."""
        shifted = self.levels + self.damping
        if not bool((shifted > 0).all()):
            raise InputError(
                f"damping: the curvature of {len(self.dual.rows):,} rows is singular where l2 = 0; give damping > 0 "
                f"(got {self.damping:g})"
            )
        return 1 / shifted

    @cached_property
    def factor(self) -> Float[Tensor, "r r"]:
        """Cholesky factor of I + AD⁻¹Aᵀ."""
        damped = self._over_levels(self.gram)
        damped.diagonal().add_(1)
        factor, failed = torch.linalg.cholesky_ex(damped)
        # No eigenvalue is below 1, but float32 may lose that beside the largest.
        return torch.linalg.cholesky(damped.double()).to(damped.dtype) if int(failed) else factor

    @property
    def name(self) -> str:
        """The solver in words."""
        return f"dual of the {self.dual.rows.name}"

    @property
    def rank(self) -> int:
        """Number of rows."""
        return len(self.dual.rows)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        spectral = isinstance(self.dual.rows.cotangents, Tensor)
        return Work(tuple(dual_stages(counts, self.rank, spectral=spectral)))

    def with_damping(self, damping: Damping) -> DualSolver:
        """The same rows with another δ: one Cholesky factor."""
        resolved = resolve(damping, self.operator, lambda: row_spectrum(self.gram.sum(0)))
        return DualSolver(self.operator, resolved, self.dual, self.levels, self.gram)

    def of_examples(self, objective: Objective, positions: Tensor) -> DualSolver:
        """The same with the rows of some training examples alone, made by another objective with the same blocks."""
        rows = self.dual.rows.of_examples(objective, positions)
        dual = DualRows(rows, self.dual.groups, DEFAULT_MEMORY)
        return DualSolver(RowsOperator(objective, rows, rows.name), self.damping, dual, self.levels, dual.gram())

    def inverse_metric(self) -> Float[Tensor, " p"]:
        """1/(λ+δ) by parameter."""
        return self.scale @ self.dual.groups

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (AᵀA + D)⁻¹: two passes over the rows."""
        vectors = checked(vectors, self.operator)
        x = self._inverse(vectors)
        # The rows are few: the residual is recomputed with them, not with the whole matrix.
        product = self._product(x)
        report = SolveReport(
            solver=self.name,
            damping=self.damping,
            iterations=0,
            residuals=relative(vectors - product, vectors),
            tolerance=100 * default_tolerance(self.operator.dtype),
            smallest_curvature=smallest_quotient(x, product),
        )
        return Solution(x, report)

    def _inverse(self, vectors: Tensor) -> Tensor:
        metric = self.inverse_metric()
        scaled = vectors * metric
        coefficients = torch.cholesky_solve(self.inner(scaled).T, self.factor).T
        return scaled - self.combine(coefficients) * metric

    def inner(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k r"]:
        """V Aᵀ."""
        return torch.cat([self.dual.block(chosen).inner(vectors) for chosen in self.dual.blocks()], dim=1)

    def combine(self, coefficients: Float[Tensor, "k r"]) -> Float[Tensor, "k p"]:
        """C A."""
        parts = [self.dual.block(chosen).combine(coefficients[:, chosen]) for chosen in self.dual.blocks()]
        return torch.stack(parts).sum(0)

    def _product(self, x: Tensor) -> Tensor:
        return self.combine(self.inner(x)) + x / self.inverse_metric()

    def scorer(self, queries: Gradients) -> Scorer:
        """∇L_qᵀ(AᵀA + D)⁻¹∇ℓ_z of every query and every example of a batch; nothing of length p is made."""
        parts = [self._metric_gram(queries, self.dual.block(chosen)) for chosen in self.dual.blocks()]
        weights = torch.cholesky_solve(torch.cat(parts, dim=1).T, self.factor).T

        def scores(train: Gradients, seen: Seen = unseen) -> Tensor:
            found = self._metric_gram(queries, train.shown(seen))
            for chosen in self.dual.blocks():
                found -= weights[:, chosen] @ self._metric_gram(self.dual.block(chosen), train)
            return found

        return scores

    def quadratic(self, train: Gradients) -> Float[Tensor, " n"]:
        """∇ℓ_zᵀ(AᵀA + D)⁻¹∇ℓ_z of every example of a batch."""
        blocks = [self._metric_gram(self.dual.block(chosen), train) for chosen in self.dual.blocks()]
        explained = torch.linalg.solve_triangular(self.factor, torch.cat(blocks), upper=False)
        return train.scaled(self.inverse_metric().sqrt()).norms() - (explained**2).sum(0)

    def _metric_gram(self, first: Gradients, second: Gradients) -> Tensor:
        return self._over_levels(self.dual.grams(first, second))

    def _over_levels(self, grams: Float[Tensor, "g m n"]) -> Float[Tensor, "m n"]:
        """Their sum, each over its λ + δ; an einsum would copy them all."""
        return (self.scale @ grams.flatten(1)).view(grams.shape[1:])
