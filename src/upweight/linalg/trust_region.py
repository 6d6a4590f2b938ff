"""Newton's method in a trust region (Nocedal & Wright 2006, algorithm 4.1), with steps by `upweight.linalg.steihaug`.

It leaves saddles along negative curvature and ends, but for them, at a minimum. Where values are equal to rounding, a
smaller gradient is progress.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.rows import Apply
from upweight.linalg.steihaug import steihaug

ACCEPTED, GOOD = 1e-4, 0.75
"""Shares of the model's promise: below the first a step is refused, above the second the region grows."""
SMALLEST_RADIUS = 1e-12
ROUGHEST = 1e-3
"""Smallest relative residual of a step: below it the next gradient costs less than the last digits."""


@dataclass(frozen=True, eq=False)
class Walk:
    """A walk to a stationary point.

    Attributes
    ----------
    point
        Its end.
    values, gradient_norms
        At the start and after every step that was taken.
    products
        With the Hessian, in all.
    negative
        dᵀHd/dᵀd of the downward directions that were followed, by the number of the step.
    radius
        Of the region that the next step would have.
    """

    point: Float[Tensor, " p"]
    values: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    products: int
    negative: dict[int, float]
    radius: float


def descend(
    evaluate: Callable[[Tensor], tuple[float, Tensor]],
    curvature: Callable[[Tensor], Apply],
    start: Float[Tensor, " p"],
    tolerance: float,
    *,
    precondition: Apply,
    radius: float,
    max_iterations: int,
    max_products: int,
) -> Walk:
    """Walk downhill to ‖gradient‖ ≤ ``tolerance``.

    Parameters
    ----------
    evaluate
        Value and gradient at a point.
    curvature
        Products with the Hessian, or a matrix in its place, at a point; of rows in float64.
    precondition
        Near the inverse of the Hessian, positive definite; lengths are measured in the inverse of it.
    radius
        Of the first region.
    max_iterations, max_products
        Steps, taken or not, and products in one step.
    """
    point = start
    value, gradient = evaluate(point)
    values, norms, negative = [value], [float(gradient.norm())], {}
    products = 0
    apply = curvature(point)
    for number in range(max_iterations):
        norm = norms[-1]
        if norm <= tolerance or radius < SMALLEST_RADIUS:
            break
        # The gradient is scaled to 1, and the region with it: float32 has no room for small numbers squared.
        found = steihaug(
            apply,
            gradient.double() / norm,
            radius / norm,
            precondition,
            max(min(0.1, norm**0.5), ROUGHEST),
            max_products,
        )
        products += found.products
        promised = norm**2 * found.decrease
        trial = point + (norm * found.step).to(point.dtype)
        there, slope = evaluate(trial)
        if abs(value - there) <= 100 * torch.finfo(point.dtype).eps * abs(value):
            share = 1.0 if float(slope.norm()) < norm else -1.0
        else:
            share = (value - there) / promised if math.isfinite(there) else -1.0
        if share < 0.25:
            radius = min(radius, norm * found.length) / 4
        elif share > GOOD and found.at_edge:
            radius *= 2
        if share < ACCEPTED:
            continue
        if found.negative is not None:
            negative[number] = found.negative
        point, value, gradient = trial, there, slope
        values.append(value)
        norms.append(float(gradient.norm()))
        apply = curvature(point)
    return Walk(point, tuple(values), tuple(norms), products, negative, radius)
