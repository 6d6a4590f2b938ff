"""Least squares by LSMR (Fong & Saunders 2011), all right-hand sides together.

Works on any matrix, symmetric or rectangular, definite or not: minimises ‖A x − v‖, and of several
minimisers gives the shortest. Converges at the rate of cond(A), as MINRES on the normal equations would.
This differs from SciPy's in: 1. many right-hand sides per product; 2. the residual is recomputed with the matrix,
and the iteration restarted from it while that helps; 3. it stops where, at its pace,
the tolerance is far beyond the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.rows import Apply, Watch, relative, unwatched

RESTARTS = 4
REST = 0.1
"""Share of what is left to go that a restart aims at."""
FAR = 4
"""Multiple of the limit that, at this pace, is too far to go on."""
ROUNDING = 10
"""So many eps of ‖A‖‖r‖ are the rounding of Aᵀr: what is less says nothing of x, and would lead far along directions
that A takes to zero."""


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
    apply: Apply,
    apply_transpose: Apply,
    vectors: Float[Tensor, "k m"],
    tolerance: float,
    limit: int,
    measure: Callable[[Tensor], Tensor] | None = None,
    window: int | None = None,
    watch: Watch = unwatched,
) -> LeastSquares:
    """`lsmr`, begun again from the recomputed residual while that helps and the tolerance is not reached.

    The tolerance is of ‖f(r)‖/‖f(v)‖ with ``measure`` f (default: the residual itself). ``window``: as of `lsmr`.
    """
    residual = vectors
    x: Tensor | None = None
    slopes: list[Tensor] = []
    of = vectors if measure is None else measure(vectors)
    before, aim, norm = relative(of, of), tolerance, vectors.new_zeros(len(vectors))
    for _ in range(RESTARTS):
        if slopes:
            slopes.pop()  # begun again from what it really is
        step, steps, ahead, norm = lsmr(
            apply, apply_transpose, residual, aim, limit - len(slopes), norm=norm, window=window, watch=watch
        )
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
    apply: Apply,
    apply_transpose: Apply,
    vectors: Float[Tensor, "k m"],
    tolerance: float,
    limit: int,
    *,
    norm: Float[Tensor, " k"] | None = None,
    window: int | None = None,
    watch: Watch = unwatched,
) -> tuple[Float[Tensor, "k p"], list[Float[Tensor, " k"]], float, Float[Tensor, " k"]]:
    """Shortest minimiser of ‖A x − v‖ for each row v, by products x ↦ A x and u ↦ Aᵀu of rows.

    Notation of Fong & Saunders 2011, section 2.8. A row is done at ‖Aᵀr‖ ≤ tolerance · ‖Aᵀv‖, or where Aᵀr is rounding
    (their third rule), of which ``norm`` is what is known of ‖A‖ before. Returns x ``[k, p]``, ‖Aᵀr‖ before the first
    iteration and after each, how many more it would have taken at the pace of the last ``window``, if it stopped
    because these were `FAR` times the limit (0: it didn't; without a window it never does), and ‖A‖ from below.
    """
    u, beta = _normalised(vectors)
    v, alpha = _normalised(apply_transpose(u))
    zeta_bar, alpha_bar = alpha * beta, alpha.clone()
    rho = rho_bar = c_bar = torch.ones_like(alpha)
    s_bar = torch.zeros_like(alpha)
    h, h_bar, x = v.clone(), torch.zeros_like(v), torch.zeros_like(v)
    zeta = torch.zeros_like(alpha)
    slopes = [zeta_bar.abs()]
    size = alpha if norm is None else torch.maximum(alpha, norm)
    noise = ROUNDING * torch.finfo(alpha.dtype).eps
    done = slopes[0] <= noise * size * beta
    length = _ResidualNorm(beta)
    shares = [1.0]
    ahead = 0.0
    for _ in watch(range(limit), shares, tolerance):
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
        r = length.after(c, s, theta_bar, rho_bar, zeta)
        size = torch.maximum(size, torch.maximum(alpha, beta))
        h_bar = h - (theta_bar * rho / (rho_old * rho_bar_old).clamp_min(tiny))[:, None] * h_bar
        step = (zeta / (rho * rho_bar).clamp_min(tiny))[:, None] * h_bar
        x = x + torch.where(done[:, None], 0.0, step)
        h = v - (theta / rho.clamp_min(tiny))[:, None] * h
        # |ζ̄| is ‖Aᵀr‖, which falls monotonically.
        slopes.append(torch.where(done, slopes[-1], zeta_bar.abs()))
        done = done | (slopes[-1] <= tolerance * slopes[0]) | ~torch.isfinite(zeta_bar)
        done = done | (slopes[-1] <= noise * size * r)
        shares.append(float((slopes[-1] / slopes[0].clamp_min(tiny)).max()))
        if window is not None and len(slopes) > window:
            fallen = (slopes[-1 - window] / slopes[-1].clamp_min(tiny)).log().clamp_min(tiny)
            rest = window * (slopes[-1] / (tolerance * slopes[0]).clamp_min(tiny)).log() / fallen
            least = float(rest[~done].min()) if not done.all() else 0.0
            ahead = least if least > FAR * limit else 0.0
    return x, slopes, ahead, size


class _ResidualNorm:
    """‖r‖ of every row by the recurrence of Fong & Saunders 2011, section 2.9."""

    def __init__(self, beta: Float[Tensor, " k"]):
        self.beta_2, self.beta_1, self.rho_1 = beta, torch.zeros_like(beta), torch.ones_like(beta)
        self.tau, self.theta, self.zeta = torch.zeros_like(beta), torch.zeros_like(beta), torch.zeros_like(beta)

    def after(self, c: Tensor, s: Tensor, theta_bar: Tensor, rho_bar: Tensor, zeta: Tensor) -> Float[Tensor, " k"]:
        """‖r‖ after an iteration with these rotations."""
        tiny = torch.finfo(zeta.dtype).tiny
        hat, self.beta_2 = c * self.beta_2, -s * self.beta_2
        turn, slant, rho_2 = _rotation(self.rho_1, theta_bar)
        before, self.theta, self.rho_1 = self.theta, slant * rho_bar, turn * rho_bar
        self.beta_1 = turn * hat - slant * self.beta_1
        self.tau, self.zeta = (self.zeta - before * self.tau) / rho_2.clamp_min(tiny), zeta
        tau = (zeta - self.theta * self.tau) / self.rho_1.where(self.rho_1.abs() > tiny, tiny)
        return torch.hypot(self.beta_1 - tau, self.beta_2)
