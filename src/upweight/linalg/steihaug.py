"""A step within a radius by Steihaug's conjugate gradients (Nocedal & Wright 2006, algorithm 7.2).

Where the matrix curves downwards it is followed to the edge of the region. Lengths are measured in the preconditioner's
norm, which conjugate gradients then know without a product with it (Conn, Gould & Toint 2000, section 7.5.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.rows import Apply


@dataclass(frozen=True)
class Step:
    """A step of `steihaug`: its length in the preconditioner's norm, and what the quadratic model promises."""

    step: Float[Tensor, " p"]
    length: float
    decrease: float
    at_edge: bool
    negative: float | None
    products: int


def steihaug(
    apply: Apply,
    gradient: Float[Tensor, " p"],
    radius: float,
    precondition: Apply,
    accuracy: float,
    max_products: int,
) -> Step:
    """Nearly minimise gᵀs + ½sᵀHs over ‖s‖_M ≤ radius (Nocedal & Wright 2006, algorithm 7.2, preconditioned by M⁻¹).

    ``accuracy``: ‖residual‖ to reach over ‖g‖, both in the norm of M⁻¹.
    """
    step, residual = torch.zeros_like(gradient), gradient.clone()
    towards = precondition(residual[None])[0]
    direction, size = -towards, float(residual @ towards)
    enough = accuracy**2 * size
    inside, mixed, squared = 0.0, 0.0, size  # ‖s‖², sᵀMd and ‖d‖², all in M
    curved = torch.zeros_like(gradient)  # H s
    used, negative, at_edge = 0, None, False
    while used < max_products and size > enough:
        image = apply(direction[None])[0]
        used += 1
        curvature = float(direction @ image)
        length = size / curvature if curvature > 0 else float("inf")
        if curvature <= 0 or inside + 2 * length * mixed + length**2 * squared >= radius**2:
            if curvature <= 0:
                negative = curvature / float(direction @ direction)
            length = (-mixed + (mixed**2 + squared * (radius**2 - inside)) ** 0.5) / squared
            at_edge = True
        step, curved = step + length * direction, curved + length * image
        inside += 2 * length * mixed + length**2 * squared
        if at_edge:
            break
        residual = residual + length * image
        towards = precondition(residual[None])[0]
        previous, size = size, float(residual @ towards)
        ratio = size / previous
        mixed, squared = ratio * (mixed + length * squared), size + ratio**2 * squared
        direction = -towards + ratio * direction
    return Step(step, inside**0.5, -float(gradient @ step + 0.5 * step @ curved), at_edge, negative, used)
