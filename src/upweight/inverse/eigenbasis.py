"""Inverses of matrices that are diagonal, block by block, in a known basis: what K-FAC, EK-FAC and the diagonal share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import RowCurvature, Rows
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.kronecker import Kronecker
from upweight.gradients import Factors, Shape
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.effective import Spectrum
from upweight.inverse.interface import Solution, SolveReport, checked
from upweight.inverse.low_rank import eigh
from upweight.messages import InputError
from upweight.objective import Objective


def rows_of(target: object, curvature: RowCurvature, name: str) -> Rows:
    """The curvature's rows for an objective.

    Raises
    ------
    InputError
        If the target is no objective, or the curvature has no rows.
    """
    if not isinstance(target, Objective):
        raise InputError(
            f"inverse.{name}: needs an objective, whose curvature it takes by rows; for an operator use CG or Nystrom"
        )
    if not isinstance(curvature, RowCurvature):
        raise InputError(
            f"curvature: the {curvature.name} has no rows; use curvature.Fisher(), EmpiricalFisher() or GGN()"
        )
    return curvature.rows(target)


def eigenbasis(shape: Shape, factors: Kronecker, dtype: torch.dtype) -> tuple[Basis, Tensor, Tensor]:
    """The eigenvectors of left ⊗ right, by float64, and the eigenvalues of each side, none negative."""
    (left, left_values), (right, right_values) = (_side(side, dtype) for side in (factors.left, factors.right))
    return Basis(shape, left, right, factors.flat), left_values, right_values


def _side(side: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
    if side.dim() == 1 or len(side) == 1:
        return None, side.reshape(-1).to(dtype)
    values, vectors = eigh(side)
    return vectors.to(dtype), values.clamp_min(0).to(dtype)


def resolved(damping: Damping, operator: EigenOperator) -> float:
    """The absolute δ; what is known of the spectrum is known exactly, from Λ."""

    def spectrum() -> Spectrum:
        values = torch.cat([value.flatten() for value in operator.values]).double()
        return Spectrum(values, torch.ones_like(values))

    return resolve(damping, operator, spectrum)


def refuse_singular(
    operator: EigenOperator, damping: float, denominators: Sequence[Tensor], shifts: Sequence[Tensor | float]
) -> None:
    """Refuse denominators that are zero to rounding where neither l2 nor damping holds them up.

    Raises
    ------
    InputError
        Names the parameter.
    """
    for basis, values, shift in zip(operator.bases, denominators, shifts, strict=True):
        lowest = float(torch.as_tensor(shift).min())
        if lowest <= 0 and float(values.min()) <= torch.finfo(values.dtype).eps * float(values.max()):
            raise InputError(
                f"damping: the {operator.name} is singular in {basis.shape.weight!r}, which has no l2; give damping > 0 "
                f"(got {damping:g})"
            )


def report(operator: EigenOperator, damping: float, vectors: Tensor, detail: str = "") -> SolveReport:
    """What such a solve is: direct, its distance from the true matrix not measured."""
    return SolveReport(
        solver=operator.name + detail,
        damping=damping,
        iterations=0,
        residuals=vectors.new_full((len(vectors),), math.nan),
        tolerance=math.nan,
        smallest_curvature=math.nan,
    )


@dataclass(frozen=True, eq=False)
class EigenSolver:
    """Q diag(1/(Λ + λ + δ)) Qᵀ, block by block.

    The residual against the matrix that Λ and Q approximate costs a pass over its rows, and is not measured.

    Attributes
    ----------
    operator
        The approximation: Λ and Q of every block, with the penalty.
    """

    operator: EigenOperator
    damping: float

    @classmethod
    def of(cls, operator: EigenOperator, damping: Damping) -> EigenSolver:
        """The solver at a damping; a multiple of the mean eigenvalue is exact, from ΣΛ."""
        return cls(operator, resolved(damping, operator))

    def __post_init__(self) -> None:
        shifts = [penalty + self.damping for penalty in self.operator.penalty]
        refuse_singular(self.operator, self.damping, self.denominators, shifts)

    @cached_property
    def denominators(self) -> tuple[Tensor, ...]:
        """Λ + λ + δ of every block."""
        pairs = zip(self.operator.values, self.operator.penalty, strict=True)
        return tuple(values + penalty + self.damping for values, penalty in pairs)

    def with_damping(self, damping: Damping) -> EigenSolver:
        """The same Q and Λ with another δ; nothing is fitted."""
        return replace(self, damping=resolved(damping, self.operator))

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """V times the inverse."""
        vectors = checked(vectors, self.operator)
        return Solution(self.precondition(vectors), report(self.operator, self.damping, vectors))

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V times the inverse, which is positive definite."""
        return self.operator.scaled(vectors, [1 / values for values in self.denominators])

    def scorer(self, queries: Factors) -> Callable[[Factors], Float[Tensor, "q n"]]:
        """∇L_qᵀ(H + δI)⁻¹∇ℓ_z of every query and every example of a batch.

        Queries are solved for in the eigenbasis. Then either they leave it, once, or the training gradients enter it,
        batch by batch: per block, whichever counts fewer multiplications.
        """
        bases = self.operator.bases
        if not cut_alike(queries, bases):
            x = self.precondition(queries.materialize())
            return lambda train: train.inner(x)
        solved, stays = [], []
        for basis, block, values in zip(bases, queries.blocks, self.denominators, strict=True):
            matrices = basis.term(block).materialize() / values
            leaving = len(matrices) * _rotation(basis)
            stays.append(self.operator.objective.n * basis.cost(block) < leaving)
            solved.append(matrices if stays[-1] else basis.out_of(matrices))

        def scores(train: Factors) -> Tensor:
            if not cut_alike(train, bases):
                return train.inner(self.precondition(queries.materialize()))
            parts = zip(bases, train.blocks, solved, stays, strict=True)
            found = [
                basis.term(block).inner(matrices) if inside else block.inner(matrices)
                for basis, block, matrices, inside in parts
            ]
            return torch.stack(found).sum(0)

        return scores


def cut_alike(factors: Factors, bases: Sequence[Basis]) -> bool:
    """Whether the gradients are cut into the same blocks, as they are unless an operation has no rule in one use."""
    return [block.shape for block in factors.blocks] == [basis.shape for basis in bases]


def _rotation(basis: Basis) -> int:
    """Multiplications of turning one whole matrix of the block."""
    return sum(len(q) for q in (basis.left, basis.right) if q is not None) * basis.shape.rows * basis.shape.columns
