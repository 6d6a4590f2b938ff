"""Least squares by LSMR (Fong & Saunders 2011), all right-hand sides together.

Works on any operator, symmetric or rectangular, definite or not: minimises ‖A x − v‖, and of several
minimisers gives the shortest. Converges at the rate of cond(A), as MINRES on the normal equations would.
This differs from SciPy's in: 1. many right-hand sides per product; 2. the residual is recomputed with the matrix,
and the iteration restarted from it while that helps; 3. it stops where, at its pace,
the tolerance is far beyond the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian, Operator
from upweight.inverse.advice import against_slowness, lsmr_limit
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import (
    Solution,
    SolveReport,
    checked,
    default_tolerance,
    name_of,
    operator_of,
    relative,
    smallest_quotient,
)
from upweight.objective import Objective
from upweight.progress import track, with_residual

RESTARTS = 4
REST = 0.1
"""Share of what is left to go that a restart aims at."""
WINDOW = (100, 300)
"""Iterations whose pace is looked at, p within these bounds: p iterations would do but for rounding."""
FAR = 4
"""Multiple of the limit that, at this pace, is too far to go on."""


@dataclass(frozen=True)
class LSMR:
    """min ‖(H+δI)x − v‖ for symmetric H of any signature.

    Parameters
    ----------
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


@dataclass(frozen=True)
class LSMRSolver:
    """LSMR bound to a matrix."""

    operator: Operator
    damping: float
    settings: LSMR

    def with_damping(self, damping: Damping) -> LSMRSolver:
        """The same matrix with another δ."""
        return replace(self, damping=resolve(damping, self.operator))

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (H+δI)⁻¹, or the shortest least-squares solution if that is singular."""
        vectors = checked(vectors, self.operator)
        tolerance = self.settings.tolerance or default_tolerance(vectors.dtype)

        def damped(rows: Tensor) -> Tensor:
            return self.operator.apply(rows) + self.damping * rows

        size = self.operator.size
        limit = self.settings.max_iterations or lsmr_limit(size, tolerance)
        window = None if self.settings.max_iterations else min(max(size, WINDOW[0]), WINDOW[1])
        found = least_squares(damped, damped, vectors, tolerance, limit, window=window)
        stopped = ""
        if (found.reached > 1.01 * tolerance).any() and found.history[-1] > tolerance:
            pace = f"at the pace of the last {window} iterations it would take {found.ahead:,.0f} more"
            why = pace if found.ahead else f"the limit of {limit:,} iterations"
            stopped = f"{why}; {against_slowness(self.operator, self.damping)} helps"
        report = SolveReport(
            solver=f"LSMR on the {name_of(self.operator)}",
            damping=self.damping,
            iterations=len(found.history) - 1,
            residuals=found.reached,
            tolerance=1.01 * tolerance,
            smallest_curvature=smallest_quotient(found.x, vectors - found.residual),
            history=found.history,
            stopped=stopped,
        )
        return Solution(found.x, report)


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """Shortest minimisers of ‖A x − v‖ by rows, and how near they are.

    Attributes
    ----------
    residual
        v − A x, recomputed with A.
    reached
        How far the equations that count are from satisfied, relative, per row.
    history
        ‖Aᵀr‖/‖Aᵀv‖ of the worst row, as the recurrence has it: before the first iteration and after each.
    ahead
        Iterations that it would have taken more, where it stopped because they were too many; else 0.
    """

    x: Float[Tensor, "k p"]
    residual: Float[Tensor, "k m"]
    reached: Float[Tensor, " k"]
    history: tuple[float, ...]
    ahead: float


def least_squares(
    apply: Callable[[Tensor], Tensor],
    apply_transpose: Callable[[Tensor], Tensor],
    vectors: Float[Tensor, "k m"],
    tolerance: float,
    limit: int,
    measure: Callable[[Tensor], Tensor] | None = None,
    window: int | None = None,
) -> LeastSquares:
    """`lsmr`, begun again from the recomputed residual while that helps and the tolerance is not reached.

    The tolerance is of ‖f(r)‖/‖f(v)‖ with ``measure`` f (default: the residual itself). ``window``: as of `lsmr`.
    """
    residual = vectors
    x: Tensor | None = None
    slopes: list[Tensor] = []
    of = vectors if measure is None else measure(vectors)
    before, aim = relative(of, of), tolerance
    for _ in range(RESTARTS):
        if slopes:
            slopes.pop()  # begun again from what it really is
        step, steps, ahead = lsmr(apply, apply_transpose, residual, aim, limit - len(slopes), window)
        x = step if x is None else x + step
        residual = vectors - apply(x)
        slopes += steps
        after = relative(residual if measure is None else measure(residual), of)
        if ahead or (after <= tolerance).all() or len(slopes) > limit or not (after < 0.5 * before).any():
            break  # done, or out of iterations, or a system whose residual can't vanish
        aim = max(tolerance, REST * tolerance / float(after.max()))
        before = after
    assert x is not None
    shares = torch.stack(slopes) / slopes[0].clamp_min(torch.finfo(vectors.dtype).tiny)
    return LeastSquares(x, residual, after, tuple(shares.amax(1).tolist()), ahead)


def _normalised(rows: Tensor) -> tuple[Tensor, Tensor]:
    norms = rows.norm(dim=1)
    return rows / norms.clamp_min(torch.finfo(rows.dtype).tiny)[:, None], norms


def _rotation(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """c, s, r with c·a + s·b = r and the rotated second entry zero."""
    r = torch.hypot(a, b)
    safe = r.clamp_min(torch.finfo(r.dtype).tiny)
    return torch.where(r > 0, a / safe, 1.0), torch.where(r > 0, b / safe, 0.0), r


def lsmr(
    apply: Callable[[Tensor], Tensor],
    apply_transpose: Callable[[Tensor], Tensor],
    vectors: Float[Tensor, "k m"],
    tolerance: float,
    limit: int,
    window: int | None = None,
) -> tuple[Float[Tensor, "k p"], list[Float[Tensor, " k"]], float]:
    """Shortest minimiser of ‖A x − v‖ for each row v, by products x ↦ A x and u ↦ Aᵀu of rows.

    Notation of Fong & Saunders 2011, section 2.8. Returns x ``[k, p]``, ‖Aᵀr‖ before the first iteration and after
    each, and how many more it would have taken at the pace of the last ``window``, if it stopped because these were
    `FAR` times the limit (0: it didn't; without a window it never does).
    """
    u, beta = _normalised(vectors)
    v, alpha = _normalised(apply_transpose(u))
    zeta_bar, alpha_bar = alpha * beta, alpha.clone()
    rho = rho_bar = c_bar = torch.ones_like(alpha)
    s_bar = torch.zeros_like(alpha)
    h, h_bar, x = v.clone(), torch.zeros_like(v), torch.zeros_like(v)
    zeta = torch.zeros_like(alpha)
    slopes = [zeta_bar.abs()]
    done = slopes[0] == 0
    shares = [1.0]
    ahead = 0.0
    for _ in track(range(limit), with_residual("LSMR", shares, tolerance)):
        if done.all() or ahead:
            break
        u, beta = _normalised(apply(v) - alpha[:, None] * u)
        v_next, alpha = _normalised(apply_transpose(u) - beta[:, None] * v)
        v = torch.where(beta[:, None] > 0, v_next, v)
        rho_old, rho_bar_old = rho, rho_bar
        c, s, rho = _rotation(alpha_bar, beta)
        theta, alpha_bar = s * alpha, c * alpha
        theta_bar = s_bar * rho
        c_bar, s_bar, rho_bar = _rotation(c_bar * rho, theta)
        zeta, zeta_bar = c_bar * zeta_bar, -s_bar * zeta_bar
        tiny = torch.finfo(rho.dtype).tiny
        h_bar = h - (theta_bar * rho / (rho_old * rho_bar_old).clamp_min(tiny))[:, None] * h_bar
        step = (zeta / (rho * rho_bar).clamp_min(tiny))[:, None] * h_bar
        x = x + torch.where(done[:, None], 0.0, step)
        h = v - (theta / rho.clamp_min(tiny))[:, None] * h
        # |ζ̄| is ‖Aᵀr‖, which falls monotonically.
        slopes.append(torch.where(done, slopes[-1], zeta_bar.abs()))
        done = done | (slopes[-1] <= tolerance * slopes[0]) | ~torch.isfinite(zeta_bar)
        shares.append(float((slopes[-1] / slopes[0].clamp_min(tiny)).max()))
        if window is not None and len(slopes) > window:
            fallen = (slopes[-1 - window] / slopes[-1].clamp_min(tiny)).log().clamp_min(tiny)
            rest = window * (slopes[-1] / (tolerance * slopes[0]).clamp_min(tiny)).log() / fallen
            least = float(rest[~done].min()) if not done.all() else 0.0
            ahead = least if least > FAR * limit else 0.0
    return x, slopes, ahead
