"""Least squares by a Neumann series on the normal equations, as the released code of Lyu et al. 2023 has it.

It converges at the rate of κ², the square of the matrix's condition; LSMR, at the rate of κ, is what to use.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from upweight import scalars
from upweight.errors import DivergedError
from upweight.linalg import errors
from upweight.linalg.neumann import neumann
from upweight.linalg.rows import Apply
from upweight.progress import watched


@dataclass(frozen=True)
class Neumann:
    """x ← x + Aᵀ(v − A x)/ν²: the released form of GIF, which converges iff ν² > ‖A‖²/2.

    Parameters
    ----------
    nu
        ν at first (default 1); it doubles whenever the normal residual is twice its smallest and more than rounding
        leaves. None: at 0.75 ‖A‖, the norm found by the power method. Nearer to the limit the flat directions gain
        little, and the steepest one swings for long.
    max_doublings
        Values of ν that are tried, each twice the one before (default 60); where all diverge, `solve` raises
        `DivergedError`.
    """

    nu: float | None = 1.0
    _: KW_ONLY
    max_doublings: int = 60

    def __post_init__(self) -> None:
        if self.nu is not None:
            scalars.number("nu", self.nu, above=0)
        scalars.whole("max_doublings", self.max_doublings, 0)

    def solve(
        self, apply: Apply, transpose: Apply, v: Tensor, tolerance: float, limit: int
    ) -> tuple[Tensor, tuple[float, ...]]:
        """To ‖Aᵀr‖ ≤ tolerance · ‖Aᵀv‖, or until the limit.

        Returns x, and ‖Aᵀr‖/‖Aᵀv‖ before the first iteration and after each, of the ν that converged.

        Raises
        ------
        DivergedError
            If no ν up to the largest serves.
        """
        try:
            return neumann(
                apply,
                transpose,
                v,
                tolerance,
                limit,
                nu=self.nu,
                max_doublings=self.max_doublings,
                watch=watched("Neumann series"),
            )
        except errors.DivergedError as met:
            raise DivergedError(f"Neumann series: diverges at every ν from {met.first:g} to {met.last:g}") from None
