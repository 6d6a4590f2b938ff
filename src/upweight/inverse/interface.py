"""The one interface of everything that applies (H + δI)⁻¹."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds
from upweight.arrays import dense
from upweight.curvature import Curvature, Operator
from upweight.errors import InputError, NotConvergedWarning, warn
from upweight.inverse.damping import Damping
from upweight.objective import Objective
from upweight.scalars import shown
from upweight.solve_report import SolveReport


@dataclass(frozen=True)
class Solution:
    """x = (H+δI)⁻¹v by rows, with the report; ``repeats`` holds independent estimates of stochastic methods."""

    x: Float[Tensor, "k p"]
    report: SolveReport
    repeats: Float[Tensor, "r k p"] | None = None


@runtime_checkable
class Solver(Protocol):
    """An inverse fitted to one matrix."""

    @property
    def operator(self) -> Operator:
        """The matrix H, without damping."""
        ...

    @property
    def damping(self) -> float:
        """The absolute δ."""
        ...

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (H+δI)⁻¹ for k vectors as rows."""
        ...

    def with_damping(self, damping: Damping) -> Solver:
        """The same matrix with another δ; what was learned of the matrix is kept, and no fit is repeated."""
        ...


@runtime_checkable
class Preconditioner(Protocol):
    """A solver that can be applied without a report, and so without the product that measures a residual."""

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V P⁻¹, P⁻¹ symmetric and positive definite, in place of V (H+δI)⁻¹ up to a factor."""
        ...


@runtime_checkable
class Inverse(Protocol):
    """An algorithm with its settings, not yet fitted to a matrix."""

    def fit(self, target: Objective | Operator) -> Solver:
        """Prepare for an objective (whose curvature is taken) or for any symmetric operator."""
        ...


def unmeasured(solver: str, damping: float, vectors: Float[Tensor, "k p"]) -> SolveReport:
    """The report of a direct solve whose distance from the true matrix was not measured.

    Parameters
    ----------
    solver
        Its name and matrix in words.
    damping
        The absolute δ.
    vectors
        What was solved for, ``[k, p]``.

    Returns
    -------
    A report of 0 iterations, with nan for the k residuals, the tolerance and the smallest curvature.
    """
    nothing = vectors.new_full((len(vectors),), math.nan)
    return SolveReport(solver, damping, 0, nothing, math.nan, math.nan)


def as_solver(inverse: Inverse | Solver, target: Objective | Operator) -> Solver:
    """The inverse fitted to the target; itself if it is fitted already."""
    kinds.check(as_solver, locals())
    return inverse.fit(target) if isinstance(inverse, Inverse) else inverse


def warned(solution: Solution) -> Solution:
    """The solution, with a warning if its solver stopped before its tolerance."""
    if not solution.report.converged:
        warn(str(solution.report), NotConvergedWarning)
    return solution


def precondition(solver: Solver, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
    """Apply an approximate inverse, in the solver's own precision: float32 is enough to precondition float64.

    Parameters
    ----------
    solver
        A fitted inverse; one with a method ``precondition`` does it without measuring a residual.
    vectors
        ``[k, p]``; the result is in their precision.
    """
    kinds.check(precondition, locals())
    rows = vectors.to(solver.operator.dtype)
    x = solver.precondition(rows) if isinstance(solver, Preconditioner) else solver.solve(rows).x
    return x.to(vectors.dtype)


def operator_of(target: Objective | Operator, curvature: Curvature) -> Operator:
    """The operator itself, or the chosen curvature of an objective."""
    kinds.check(operator_of, locals())
    return curvature.of(target) if isinstance(target, Objective) else target


def name_of(operator: Operator) -> str:
    """The matrix in words."""
    return getattr(operator, "name", None) or type(operator).__name__.lower()


def checked(vectors: Float[Tensor, "k p"], operator: Operator) -> Float[Tensor, "k p"]:
    """Vectors that this operator can be solved for.

    Raises
    ------
    InputError
        On wrong shape or numbers that aren't finite.
    """
    if not isinstance(vectors, Tensor) or vectors.dim() != 2 or vectors.shape[1] != operator.size:
        got = tuple(vectors.shape) if isinstance(vectors, Tensor) else shown(vectors)
        raise InputError(f"vectors: expected rows [k, {operator.size}]; got {got}")
    if not torch.isfinite(dense(vectors, "vectors")).all():
        raise InputError("vectors: NaN or infinite values can't be solved for")
    return vectors


def default_tolerance(dtype: torch.dtype) -> float:
    """Relative residual that the precision can reach on matrices that are not badly conditioned."""
    return 1e-10 if dtype == torch.float64 else 1e-5
