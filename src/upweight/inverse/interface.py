"""The one interface of everything that applies (H + δI)⁻¹."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds
from upweight.curvature import Curvature, Operator
from upweight.inverse.damping import Damping
from upweight.messages import InputError, NotConvergedWarning, warn
from upweight.objective import Objective
from upweight.scalars import shown


@dataclass(frozen=True)
class SolveReport:
    """What a solve did.

    Attributes
    ----------
    solver
        The algorithm and the matrix, in words.
    damping
        The absolute δ.
    iterations
        Products with the matrix for the slowest vector; 0 for direct methods.
    residuals
        ‖v − (H+δI)x‖/‖v‖ per vector, recomputed with the matrix, ``[k]`` (nan: not measured).
    tolerance
        The relative residual that was asked for (nan: no such promise).
    smallest_curvature
        Smallest xᵀ(H+δI)x/xᵀx seen, an upper bound of the smallest eigenvalue (nan: not measured).
    standard_error
        For stochastic methods: standard error of x relative to ‖x‖, per vector, ``[k]``.
    history
        Of CG and LSMR: residual of the worst vector before the first iteration and after each, relative, as the
        recurrence has it: ‖r‖/‖v‖ of CG, ‖Ar‖/‖Av‖ with A = H+δI of LSMR.
    stopped
        Why it stopped before what was asked for, and what helps; "" if it didn't.
    """

    solver: str
    damping: float
    iterations: int
    residuals: Float[Tensor, " k"]
    tolerance: float
    smallest_curvature: float
    standard_error: Float[Tensor, " k"] | None = None
    history: tuple[float, ...] = ()
    stopped: str = ""

    @property
    def converged(self) -> bool:
        """Whether every vector reached the tolerance."""
        return not self.stopped and not bool((self.residuals > self.tolerance).any())

    def __str__(self) -> str:
        worst = float(self.residuals.max()) if len(self.residuals) else math.nan
        residual = "residual not measured" if math.isnan(worst) else f"relative residual ≤ {worst:.1e}"
        text = f"{self.solver}, δ={self.damping:.3g}: {residual}"
        if self.iterations:
            text += f" in {self.iterations} iterations"
        if self.standard_error is not None:
            text += f", standard error {float(self.standard_error.max()):.1%}"
        if self.converged:
            return text
        missed = "" if math.isnan(self.tolerance) else f"tolerance {self.tolerance:.0e} not reached"
        return f"{text} ({'; '.join(filter(None, (missed, self.stopped)))})"


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
    """The report of a direct solve whose distance from the true matrix was not measured."""
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
    """Apply an approximate inverse, in the solver's own precision: float32 is enough to precondition float64."""
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
    if not torch.isfinite(vectors).all():
        raise InputError("vectors: NaN or infinite values can't be solved for")
    return vectors


def default_tolerance(dtype: torch.dtype) -> float:
    """Relative residual that the precision can reach on matrices that are not badly conditioned."""
    return 1e-10 if dtype == torch.float64 else 1e-5
