"""Least squares by a Neumann series on the normal equations, as the released code of Lyu et al. 2023 has it.

It converges at the rate of κ², the square of the matrix's condition; LSMR, at the rate of κ, is what to use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from upweight import scalars
from upweight.messages import DivergedError
from upweight.progress import track, with_residual

Rows = Callable[[Tensor], Tensor]
NEAR = 0.75
"""ν as a multiple of ‖A‖: 1.13 times as many steps as at the limit in flat directions, .78 a step in the steepest."""
POWERS = 30
"""Steps of the power method."""
ROUNDING = 100
"""Below so many eps of ν(‖v‖ + ν‖x‖) a normal residual wobbles by rounding, whatever the steps do."""


@dataclass(frozen=True)
class Neumann:
    """x ← x + Aᵀ(v − A x)/ν²: the released form of GIF, which converges iff ν² > ‖A‖²/2.

    ν begins at ``nu`` and doubles whenever the normal residual is twice its smallest and more than rounding leaves.
    None: at 0.75 ‖A‖, the norm found by the power method. Nearer to the limit the flat directions gain little, and the
    steepest one swings for long.
    """

    nu: float | None = 1.0
    _: KW_ONLY
    max_doublings: int = 60

    def __post_init__(self) -> None:
        if self.nu is not None:
            scalars.number("nu", self.nu, above=0)
        scalars.whole("max_doublings", self.max_doublings, 0)

    def solve(
        self, apply: Rows, transpose: Rows, v: Tensor, tolerance: float, limit: int
    ) -> tuple[Tensor, tuple[float, ...]]:
        """To ‖Aᵀr‖ ≤ tolerance · ‖Aᵀv‖, or until the limit.

        Returns x, and ‖Aᵀr‖/‖Aᵀv‖ before the first iteration and after each, of the ν that converged.

        Raises
        ------
        DivergedError
            If no ν up to the largest serves.
        """
        start = transpose(v)
        first = nu = NEAR * largest(apply, transpose, start) if self.nu is None else self.nu
        size, eps = float(start.norm()), torch.finfo(v.dtype).eps
        for _ in range(self.max_doublings):
            x, slope, sizes = start.new_zeros(start.shape), start, [size]
            diverging = False
            for _ in track(range(limit), with_residual("Neumann series", sizes, tolerance * size)):
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
        raise DivergedError(f"Neumann series: diverges at every ν from {first:g} to {nu / 2:g}")


def largest(apply: Rows, transpose: Rows, start: Tensor) -> float:
    """‖A‖, from below, by the power method on AᵀA."""
    x, found = start, 0.0
    for _ in range(POWERS):
        size = float(x.norm())
        if size == 0:
            break
        x = transpose(apply(x / size))
        found = float(x.norm()) ** 0.5
    return found or 1.0
