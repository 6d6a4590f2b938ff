"""DataInf: the mean of the examples' own inverses in place of the inverse of their mean (Kwon et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds
from upweight.curvature import EmpiricalFisher, Operator, RowCurvature, RowsOperator
from upweight.curvature.kronecker import blocks, refuse_not_finite
from upweight.errors import InputError
from upweight.gradients import Gradients
from upweight.gradients.denormals import flushed
from upweight.inverse.costs import Counts, Work, datainf_stages, example_rows
from upweight.inverse.damping import Damping, MeanEigenvalue, resolve
from upweight.inverse.eigenbasis import rows_of
from upweight.inverse.interface import Solution, SolveReport, checked
from upweight.objective import Objective


@dataclass(frozen=True)
class DataInf:
    """(1/R) Σ_r (R g_r g_rᵀ + diag(λ) + δI)⁻¹ per parameter block, each by Sherman–Morrison; g_r the R rows.

    Kwon et al. (2024), "DataInf", eq. 5. Exact where all rows of a block are the same or δ is large; it inverts no
    matrix and fits nothing, each solve is one pass over the rows. It differs from the paper in that δ is one number,
    not a tenth of each layer's mean squared gradient.

    Parameters
    ----------
    curvature
        ``EmpiricalFisher()`` (the paper's), or others given by rows.
    damping
        δ > 0 unless every parameter has l2.

    Raises
    ------
    InputError
        If λ + δ is 0 for a parameter; if a gradient is NaN, with its training example.
    """

    curvature: RowCurvature = field(default_factory=EmpiricalFisher)
    _: KW_ONLY
    damping: Damping = field(default_factory=MeanEigenvalue)

    def __post_init__(self) -> None:
        kinds.check_fields(self)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(datainf_stages(counts, counts.objective.n * example_rows(counts.objective, self.curvature))))

    def fit(self, target: Objective | Operator) -> DataInfSolver:
        """Bind to the rows."""
        rows = rows_of(target, self.curvature, "DataInf")
        operator = RowsOperator(rows.objective, rows, rows.name)
        return DataInfSolver(operator, resolve(self.damping, operator))


@dataclass(frozen=True, eq=False)
class DataInfSolver:
    """DataInf bound to the rows of a matrix."""

    operator: RowsOperator
    damping: float

    def __post_init__(self) -> None:
        if not bool((self.operator.objective.l2 + self.damping > 0).all()):
            raise InputError(
                f"damping: one example's matrix is singular where l2 = 0; give damping > 0 (got {self.damping:g})"
            )

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(datainf_stages(counts, len(self.operator.rows))))

    def with_damping(self, damping: Damping) -> DataInfSolver:
        """The same rows with another δ."""
        return replace(self, damping=resolve(damping, self.operator))

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """V times the mean inverse; how far that is from the inverse of the mean is not measured."""
        vectors = checked(vectors, self.operator)
        report = SolveReport(
            solver=f"DataInf on the {self.operator.name}",
            damping=self.damping,
            iterations=0,
            residuals=vectors.new_full((len(vectors),), math.nan),
            tolerance=math.nan,
            smallest_curvature=math.nan,
        )
        return Solution(self.precondition(vectors), report)

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V times the mean inverse, which is positive definite; one pass over the rows.

        In the metric D = diag(λ) + δI: D^{-1/2}(v − Σ g(gᵀv)/(1 + R‖g‖²)) with v and g times D^{-1/2}.
        """
        metric = (self.operator.objective.l2 + self.damping).rsqrt()
        scaled = vectors * metric
        rows = self.operator.rows
        total = torch.zeros_like(scaled)
        with flushed():
            for _, factors in blocks(rows):
                total += _pulled(factors.scaled(metric), scaled, len(rows))
        refuse_not_finite(rows, [total])
        return (scaled - total) * metric


def _pulled(factors: Gradients, vectors: Float[Tensor, "k p"], count: int) -> Float[Tensor, "k p"]:
    """Σ g(gᵀv)/(1 + R‖g‖²), block by block."""
    parts = []
    for block, matrices in zip(factors.blocks, factors.matrices(vectors), strict=True):
        weights = block.inner(matrices) / (1 + count * block.norms())
        parts.append(block.combine(weights))
    return factors.vectors(parts)
