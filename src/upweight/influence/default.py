"""Which inverse serves an objective when the user doesn't say."""

from __future__ import annotations

from upweight.curvature import GGN, Curvature, Hessian
from upweight.inverse import CG, Dense, Inverse, MeanEigenvalue
from upweight.objective import Objective

DENSE_UP_TO = 4000
"""p up to which the whole matrix is cheaper than iterating: 128 MB and a second in float64."""


def default_inverse(objective: Objective) -> tuple[Inverse, str]:
    """An inverse and the reason for it in words."""
    damping: float | MeanEigenvalue
    curvature: Curvature
    if objective.is_linear:
        curvature, damping = Hessian(), 0.0
        reason = "outputs are linear in θ, so the Hessian of a convex loss is exact and needs no damping"
    elif objective.function.split:
        curvature, damping = GGN(), MeanEigenvalue(0.1)
        reason = "a non-convex model: the GGN (no negative curvature), damped by a tenth of its mean eigenvalue"
    else:
        curvature, damping = Hessian(), MeanEigenvalue(0.1)
        reason = "your own loss has no outputs to split at: the Hessian, damped by a tenth of its mean eigenvalue"
    if objective.p <= DENSE_UP_TO:
        return Dense(curvature, damping), f"{reason}; p={objective.p:,} ≤ {DENSE_UP_TO:,}: factorised"
    return CG(curvature, damping), f"{reason}; p={objective.p:,}: conjugate gradients"
