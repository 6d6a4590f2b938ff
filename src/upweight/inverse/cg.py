"""(H + δI)⁻¹ by block conjugate gradients, all right-hand sides together (`upweight.linalg.block_cg`)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, is_dataclass, replace

from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian, Operator
from upweight.errors import NegativeCurvatureError
from upweight.inverse.advice import against_negative, against_slowness
from upweight.inverse.costs import Counts, Work, iterative_work, name_of_curvature
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import (
    Inverse,
    Solution,
    Solver,
    SolveReport,
    as_solver,
    checked,
    default_tolerance,
    name_of,
    operator_of,
    precondition,
)
from upweight.linalg.block_cg import block_cg
from upweight.linalg.errors import NotPositiveError, PreconditionerNotPositiveError
from upweight.objective import Objective
from upweight.progress import watched


@dataclass(frozen=True)
class CG:
    """Conjugate gradients on H + δI, which must be positive definite.

    Parameters
    ----------
    curvature
        H (default ``Hessian()``); away from an optimum of a network ``GGN()``, which has no negative curvature.
    damping
        δ: a number ≥ 0 (default 0), ``auto`` or a rule such as `MeanEigenvalue`.
    tolerance
        Relative residual ‖v − (H+δI)x‖/‖v‖ (default: 1e-10 in float64, 1e-5 in float32).
    max_iterations
        Passes over the data before giving up (default 1000).
    preconditioner
        Any inverse, fitted or not; an approximation of (H+δI)⁻¹ that is symmetric and positive definite. One that
        isn't fitted and has no damping of its own (0 or "auto") takes this one's δ.

    Raises
    ------
    NegativeCurvatureError
        If a direction d with dᵀ(H+δI)d ≤ 0 is met, with the figure, or the preconditioner isn't positive definite.

    Warns
    -----
    NotConvergedWarning
        Where `upweight.Influence` and others that use it for scores get a residual above the tolerance, after
        ``max_iterations`` or where rounding leaves no more. ``solve`` itself says it by ``report.converged`` alone.
    """

    curvature: Curvature = field(default_factory=Hessian)
    _: KW_ONLY
    damping: Damping = 0.0
    tolerance: float | None = None
    max_iterations: int = 1000
    preconditioner: Inverse | Solver | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.whole("max_iterations", self.max_iterations)
        if self.tolerance is not None:
            scalars.number("tolerance", self.tolerance, above=0, below=1)

    def fit(self, target: Objective | Operator) -> CGSolver:
        """Bind to a matrix; fits the preconditioner if it isn't yet."""
        operator = operator_of(target, self.curvature)
        damping = resolve(self.damping, operator)
        preconditioner = None if self.preconditioner is None else _fitted(self.preconditioner, target, damping)
        return CGSolver(operator, damping, self, preconditioner)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return iterative_work(counts, name_of_curvature(self), limit=self.max_iterations, timed=timed)


def _fitted(preconditioner: Inverse | Solver, target: Objective | Operator, damping: float) -> Solver:
    unset = isinstance(preconditioner, Inverse) and getattr(preconditioner, "damping", None) in (0, "auto")
    if unset and is_dataclass(preconditioner) and not isinstance(preconditioner, type):
        preconditioner = replace(preconditioner, damping=damping)
    return as_solver(preconditioner, target)


@dataclass(frozen=True)
class CGSolver:
    """CG bound to a matrix."""

    operator: Operator
    damping: float
    settings: CG
    preconditioner: Solver | None = None

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return iterative_work(counts, name_of_curvature(self), limit=self.settings.max_iterations, timed=timed)

    def with_damping(self, damping: Damping) -> CGSolver:
        """The same matrix with another δ, and the preconditioner with that and what damping it had more; no fit."""
        absolute, preconditioner = resolve(damping, self.operator), self.preconditioner
        if preconditioner is not None:
            more = max(preconditioner.damping - self.damping, 0.0)
            preconditioner = preconditioner.with_damping(absolute + more)
        return replace(self, damping=absolute, preconditioner=preconditioner)

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (H+δI)⁻¹ to the tolerance."""
        vectors = checked(vectors, self.operator)
        tolerance = self.settings.tolerance or default_tolerance(vectors.dtype)
        preconditioner = self.preconditioner
        try:
            found = block_cg(
                self._damped,
                vectors,
                tolerance,
                self.settings.max_iterations,
                None if preconditioner is None else lambda q: precondition(preconditioner, q),
                watched("CG"),
            )
        except NotPositiveError as met:
            raise self._not_positive(met) from None
        except PreconditionerNotPositiveError:
            raise NegativeCurvatureError(
                "CG: the preconditioner is not positive definite to rounding; use a larger damping in it, or another"
            ) from None
        stopped = ""
        if (found.residuals > 1.01 * tolerance).any():
            stopped = against_slowness(self.operator, self.damping, preconditioned=preconditioner is not None)
            stopped += " helps"
        report = SolveReport(
            solver=f"CG on the {name_of(self.operator)}",
            damping=self.damping,
            iterations=max(len(found.history) - 1, 0),
            residuals=found.residuals,
            # The recomputed residual carries the rounding of one more product.
            tolerance=1.01 * tolerance,
            smallest_curvature=found.smallest,
            history=found.history or (0.0,),
            stopped=stopped,
        )
        return Solution(found.x, report)

    def _damped(self, vectors: Tensor) -> Tensor:
        return self.operator.apply(vectors) + self.damping * vectors

    def _not_positive(self, met: NotPositiveError) -> NegativeCurvatureError:
        tolerance = self.settings.tolerance or default_tolerance(self.operator.dtype)
        return NegativeCurvatureError(
            f"CG met a direction d with dᵀ(H+δI)d/dᵀd = {met.quotient:.3e} ≤ 0 after {met.iterations} iterations, at "
            f"damping {self.damping:.3g}: H + δI is not positive definite. "
            + against_negative(self.operator, self.damping, met.quotient, met.largest, tolerance)
        )
