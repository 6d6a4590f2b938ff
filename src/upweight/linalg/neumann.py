"""Least squares by a Neumann series on the normal equations, x ← x + Aᵀ(v − A x)/ν².

It converges iff ν² > ‖A‖²/2, at the rate of the square of A's condition.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, finfo

from upweight.linalg.errors import DivergedError
from upweight.linalg.power import power
from upweight.linalg.rows import Apply, Watch, unwatched

NEAR = 0.75
"""ν as a multiple of ‖A‖: 1.13 times as many steps as at the limit in flat directions, .78 a step in the steepest."""
POWERS = 30
"""Steps of the power method."""
ROUNDING = 100
"""Below so many eps of ν(‖v‖ + ν‖x‖) a normal residual wobbles by rounding, whatever the steps do."""


def neumann(
    apply: Apply,
    transpose: Apply,
    v: Float[Tensor, "k m"],
    tolerance: float,
    limit: int,
    *,
    nu: float | None,
    max_doublings: int,
    watch: Watch = unwatched,
) -> tuple[Float[Tensor, "k p"], tuple[float, ...]]:
    """To ‖Aᵀr‖ ≤ tolerance · ‖Aᵀv‖, or until the limit.

    ν begins as it is given, or at 0.75 ‖A‖ by the power method, and doubles whenever the normal residual is twice its
    smallest and more than rounding leaves. Returns x, and ‖Aᵀr‖/‖Aᵀv‖ before the first iteration and after each, of
    the ν that converged.

    Raises
    ------
    DivergedError
        If no ν up to the largest serves.
    """
    start = transpose(v)
    first = nu = NEAR * norm(apply, transpose, start) if nu is None else nu
    size, eps = float(start.norm()), finfo(v.dtype).eps
    for _ in range(max_doublings):
        x, slope, sizes = start.new_zeros(start.shape), start, [size]
        diverging = False
        for _ in watch(range(limit), sizes, tolerance * size):
            if sizes[-1] <= tolerance * size:
                break
            x = x + slope / nu**2
            slope = transpose(v - apply(x))
            sizes.append(float(slope.norm()))
            floor = ROUNDING * eps * nu * (float(v.norm()) + nu * float(x.norm()))
            diverging = not sizes[-1] <= 2 * max(min(sizes), floor)
            if diverging:
                break
        if not diverging:
            return x, tuple(each / size if size > 0 else 0.0 for each in sizes)
        nu *= 2
    raise DivergedError(first, nu / 2)


def norm(apply: Apply, transpose: Apply, start: Float[Tensor, "k p"]) -> float:
    """‖A‖, from below, by the power method on AᵀA; 1 where that finds nothing."""
    return power(lambda x: transpose(apply(x)), start, POWERS) ** 0.5 or 1.0
