"""(H + δI)⁻¹ by least squares, of a matrix of any signature: LSMR (`upweight.linalg.lsmr`)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian, Operator
from upweight.inverse.advice import against_slowness, lsmr_limit
from upweight.inverse.costs import Counts, Work, iterative_work, name_of_curvature
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import (
    Solution,
    SolveReport,
    checked,
    default_tolerance,
    name_of,
    operator_of,
    unmeasured,
)
from upweight.linalg.lsmr import least_squares
from upweight.linalg.rows import smallest_quotient
from upweight.objective import Objective
from upweight.progress import watched

WINDOW = (100, 300)
"""Iterations whose pace is looked at, p within these bounds: p iterations would do but for rounding."""


ASSUMED_ITERATIONS = 100


@dataclass(frozen=True)
class LSMR:
    """min ‖(H+δI)x − v‖ for symmetric H of any signature.

    Parameters
    ----------
    curvature
        H (default ``Hessian()``).
    damping
        δ: a number ≥ 0 (default 0), ``auto`` or a rule such as `MeanEigenvalue`.
    tolerance
        Relative residual ‖v − (H+δI)x‖/‖v‖ (default: 1e-10 in float64, 1e-5 in float32). Where the system is singular
        and v outside its range, the residual can't fall so far: x is the shortest least-squares solution, and the
        report says what residual is left.
    max_iterations
        Of two products each. None: √p for every factor e of the tolerance, 4p + 50 and 2000 at most, and fewer where,
        at the pace of the last iterations (as many as there are parameters, 100 to 300), it would take four times that.
    """

    curvature: Curvature = field(default_factory=Hessian)
    _: KW_ONLY
    damping: Damping = 0.0
    tolerance: float | None = None
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if self.max_iterations is not None:
            scalars.whole("max_iterations", self.max_iterations)
        if self.tolerance is not None:
            scalars.number("tolerance", self.tolerance, above=0, below=1)

    def fit(self, target: Objective | Operator) -> LSMRSolver:
        """Bind to a matrix."""
        operator = operator_of(target, self.curvature)
        return LSMRSolver(operator, resolve(self.damping, operator), self)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return _work(counts, self, name_of_curvature(self), timed)


@dataclass(frozen=True)
class LSMRSolver:
    """LSMR bound to a matrix."""

    operator: Operator
    damping: float
    settings: LSMR

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return _work(counts, self.settings, name_of_curvature(self), timed)

    @property
    def name(self) -> str:
        """The solver in words."""
        return f"LSMR on the {name_of(self.operator)}"

    def with_damping(self, damping: Damping) -> LSMRSolver:
        """The same matrix with another δ."""
        return replace(self, damping=resolve(damping, self.operator))

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (H+δI)⁻¹, or the shortest least-squares solution if that is singular."""
        vectors = checked(vectors, self.operator)
        if not len(vectors):
            return Solution(vectors.clone(), unmeasured(self.name, self.damping, vectors))
        tolerance = self.settings.tolerance or default_tolerance(vectors.dtype)

        def damped(rows: Tensor) -> Tensor:
            return self.operator.apply(rows) + self.damping * rows

        size = self.operator.size
        limit = self.settings.max_iterations or lsmr_limit(size, tolerance)
        window = None if self.settings.max_iterations else min(max(size, WINDOW[0]), WINDOW[1])
        found = least_squares(damped, damped, vectors, tolerance, limit, window=window, watch=watched("LSMR"))
        stopped = ""
        ended = found.ahead or len(found.history) > limit
        if ended and (found.reached > 1.01 * tolerance).any() and found.history[-1] > tolerance:
            pace = f"at the pace of the last {window} iterations it would take {found.ahead:,.0f} more"
            why = pace if found.ahead else f"the limit of {limit:,} iterations"
            stopped = f"{why}; {against_slowness(self.operator, self.damping)} helps"
        report = SolveReport(
            solver=self.name,
            damping=self.damping,
            iterations=len(found.history) - 1,
            residuals=found.reached,
            tolerance=1.01 * tolerance,
            smallest_curvature=smallest_quotient(found.x, vectors - found.residual),
            history=found.history,
            stopped=stopped,
        )
        return Solution(found.x, report)


def _work(counts: Counts, settings: LSMR, curvature: str, timed: bool) -> Work:
    """Two products an iteration; it converges with the condition, where conjugate gradients do with its root."""
    tolerance = settings.tolerance or default_tolerance(counts.objective.dtype)
    limit = settings.max_iterations or lsmr_limit(counts.objective.p, tolerance)
    return iterative_work(counts, curvature, ASSUMED_ITERATIONS, limit, products=2, timed=timed)
