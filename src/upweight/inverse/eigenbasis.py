"""Inverses of matrices that are diagonal, block by block, in a known basis: K-FAC, EK-FAC and the diagonal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import RowCurvature, Rows
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.kronecker import Kronecker
from upweight.errors import InputError
from upweight.gradients import Gradients, Shape
from upweight.gradients.blocks import conformed
from upweight.gradients.terms import Outer
from upweight.inverse.costs import Counts, Work, diagonal_stages
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.effective import LAYERWISE_SHARE, UNPENALIZED_SHARE, layerwise_damping
from upweight.inverse.eigen_scores import EigenScorer, EigenScores
from upweight.inverse.interface import Solution, checked, unmeasured
from upweight.inverse.layer_costs import ekfac_stages, kfac_stages
from upweight.linalg.eigh import eigenvectors
from upweight.linalg.traces import Spectrum
from upweight.objective import Objective


def rows_of(target: object, curvature: RowCurvature, name: str) -> Rows:
    """The curvature's rows for an objective.

    Raises
    ------
    InputError
        If the target is no objective.
    """
    if not isinstance(target, Objective):
        raise InputError(
            f"inverse.{name}: needs an objective, whose curvature it takes by rows; for an operator use CG or Nystrom"
        )
    return curvature.rows(target)


def eigenbasis(shape: Shape, factors: Kronecker, dtype: torch.dtype) -> tuple[Basis, Tensor, Tensor]:
    """The eigenvectors of left ⊗ right, and the eigenvalues of each side, none negative."""
    (left, left_values), (right, right_values) = (_side(side, dtype) for side in (factors.left, factors.right))
    return Basis(shape, left, right, factors.flat), left_values, right_values


def eigenbases(found: dict[Shape, Kronecker], dtype: torch.dtype) -> Iterator[tuple[Basis, Tensor, Tensor]]:
    """`eigenbasis` of every block, whose factors are let go on the way: they are as large as the vectors."""
    for shape in list(found):
        yield eigenbasis(shape, found.pop(shape), dtype)


def _side(side: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
    if side.dim() == 1 or len(side) == 1:
        return None, side.reshape(-1).to(dtype)
    values, vectors = eigenvectors(side, dtype)
    return vectors, values.clamp_min(0)


def resolved(damping: Damping, operator: EigenOperator) -> float:
    """The absolute δ; what is asked of the spectrum is known exactly, from Λ."""

    def spectrum() -> Spectrum:
        values = torch.cat([value.flatten() for value in operator.values]).double()
        return Spectrum(values, torch.ones_like(values))

    if damping == "auto":
        share = LAYERWISE_SHARE if operator.penalized else UNPENALIZED_SHARE
        return layerwise_damping(spectrum(), float(operator.l2.min()), share)
    return resolve(damping, operator, spectrum)


def refuse_singular(
    operator: EigenOperator, damping: float, denominators: Iterable[Tensor], shifts: Sequence[Tensor | float]
) -> None:
    """Refuse denominators that are zero to rounding where neither l2 nor damping holds them up.

    Rounding is that of the basis: in none (a diagonal, a metric of steps) small numbers are what they are.

    Raises
    ------
    InputError
        Names the parameter.
    """
    for basis, values, shift in zip(operator.bases, denominators, shifts, strict=True):
        lowest = float(torch.as_tensor(shift).min())
        is_turned = basis.left is not None or basis.right is not None
        rounding = torch.finfo(values.dtype).eps * float(values.max()) if is_turned else 0.0
        if lowest <= 0 and float(values.min()) <= rounding:
            raise InputError(
                f"damping: the {operator.name} is singular in {basis.shape.weight!r}, which has no l2; "
                f"give damping > 0 (got {damping:g})"
            )


@dataclass(frozen=True, eq=False)
class EigenSolver:
    """Q diag(1/(Λ + λ + δ)) Qᵀ, block by block.

    The residual against the matrix that Λ and Q approximate costs a pass over its rows, and is not measured.

    Attributes
    ----------
    operator
        The approximation: Λ and Q of every block, with the penalty.
    tolerance, query_rank
        Of pairs' scores: see `upweight.inverse.EKFAC`.
    own_pass
        Whether Λ took a pass of its own over the rows.
    """

    operator: EigenOperator
    damping: float
    tolerance: float = 0.0
    query_rank: int | None = None
    own_pass: bool = True

    @classmethod
    def of(
        cls, operator: EigenOperator, damping: Damping, tolerance: float = 0.0, query_rank: int | None = None
    ) -> EigenSolver:
        """The solver at a damping; a multiple of the mean eigenvalue is exact, from ΣΛ."""
        return cls(operator, resolved(damping, operator), tolerance, query_rank)

    def __post_init__(self) -> None:
        shifts = [penalty + self.damping for penalty in self.operator.penalty]
        refuse_singular(self.operator, self.damping, map(self.denominators, range(len(shifts))), shifts)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        is_diagonal = all(basis.left is None and basis.right is None for basis in self.operator.bases)
        if is_diagonal:
            return Work(tuple(diagonal_stages(counts)))
        every = ekfac_stages(counts, self.tolerance) if self.own_pass else kfac_stages(counts, by_factors=False)
        return Work(tuple(every))

    def denominators(self, number: int) -> Tensor:
        """Λ + λ + δ of a block."""
        return self.operator.values[number] + self.operator.penalty[number] + self.damping

    @property
    def _inverses(self) -> Iterator[Tensor]:
        """1/(Λ + λ + δ), block after block."""
        return (1 / self.denominators(number) for number in range(len(self.operator.bases)))

    @property
    def name(self) -> str:
        """The solver in words."""
        return self.operator.name

    def with_damping(self, damping: Damping) -> EigenSolver:
        """The same Q and Λ with another δ; nothing is fitted."""
        return replace(self, damping=resolved(damping, self.operator))

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """V times the inverse."""
        vectors = checked(vectors, self.operator)
        return Solution(self.precondition(vectors), unmeasured(self.name, self.damping, vectors))

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V times the inverse, which is positive definite."""
        return self.operator.scaled(vectors, self._inverses)

    def scorer(self, queries: Gradients) -> EigenScorer:
        """∇L_qᵀ(H + δI)⁻¹∇ℓ_z of every query and every example of a batch (`upweight.inverse.eigen_scores`)."""
        handed = [queries]
        del queries  # block by block what is done with is let go, if the caller has
        return self._scores.scorer(handed.pop())

    @cached_property
    def _scores(self) -> EigenScores:
        return EigenScores(self.operator, self.denominators, self.tolerance, self.query_rank)

    def quadratic(self, train: Gradients) -> Float[Tensor, " n"]:
        """∇ℓ_zᵀ(H + δI)⁻¹∇ℓ_z of every example of a batch."""
        return quadratic(self.operator, self._inverses, train)


def quadratic(operator: EigenOperator, inverses: Iterable[Tensor], train: Gradients) -> Float[Tensor, " n"]:
    """Σ of each gradient's squared entries in the basis over the damped eigenvalues, block by block."""
    parts = []
    blocks = conformed(train, [basis.shape for basis in operator.bases]).blocks
    for basis, block, inverse in zip(operator.bases, blocks, inverses, strict=True):
        term = basis.term(block)
        if isinstance(term, Outer) and term.left.shape[1] == 1:
            parts.append(((term.left[:, 0] ** 2 @ inverse) * term.right[:, 0] ** 2).sum(1))
        else:
            parts.append((term.materialize() ** 2 * inverse).sum((1, 2)))
    return torch.stack(parts).sum(0)
