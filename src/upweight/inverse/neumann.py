"""Least squares by a Neumann series on the normal equations, as the released code of Lyu et al. 2023 has it.

It converges at the rate of κ², the square of the matrix's condition; LSMR, at the rate of κ, is what to use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from upweight.messages import DivergedError

Rows = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Neumann:
    """x ← x + Aᵀ(v − A x)/ν²: the released form of GIF, which converges iff ν² > ‖A‖²/2.

    ν begins at ``nu`` and doubles whenever the normal residual has grown.
    """

    nu: float = 1.0
    max_doublings: int = 60

    def solve(self, apply: Rows, transpose: Rows, v: Tensor, tolerance: float, limit: int) -> tuple[Tensor, int]:
        """To ‖Aᵀr‖ ≤ tolerance · ‖Aᵀv‖, or until the limit; returns x and the iterations of the ν that converged.

        Raises
        ------
        DivergedError
            If no ν up to the largest serves.
        """
        nu = self.nu
        start = transpose(v)
        size = float(start.norm())
        for _ in range(self.max_doublings):
            x, slope, last = start.new_zeros(start.shape), start, math.inf
            for iteration in range(1, limit + 1):
                x = x + slope / nu**2
                slope = transpose(v - apply(x))
                now = float(slope.norm())
                if not now <= last * 1.000001 + tolerance * size:
                    break
                if now <= tolerance * size or iteration == limit:
                    return x, iteration
                last = now
            nu *= 2
        raise DivergedError(f"Neumann series: diverges at every ν from {self.nu:g} to {nu / 2:g}")
