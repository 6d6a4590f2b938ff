"""The damping of an index: as `upweight.inverse.effective`, with what of the curvature its rows don't hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.errors import InputError
from upweight.inverse import MeanEigenvalue, MeanLeverage
from upweight.inverse.damping import Damping
from upweight.inverse.effective import damping_at
from upweight.linalg.traces import Spectrum

LARGEST_SHARE = 0.25
"""Of the numbers of a row, that the effective dimension at the chosen damping is at most where only they are known."""


@dataclass(frozen=True)
class Partial(Spectrum):
    """The spectrum of the curvature in the kept directions, and second moments of entries kept and left out, in groups.

    The effective dimension of the whole is that of the part, times the ratio that the second moments have. Where
    nothing is known of those it is that of the part.
    """

    inside: Float[Tensor, "2 bins"]
    outside: Float[Tensor, "2 others"]

    @property
    def is_known(self) -> bool:
        """Whether something is known of what was left out."""
        return self.inside.shape[1] > 0

    def effective_dimension(self, shift: float) -> float:
        """Σ b/(b + shift) over the whole spectrum."""
        own = super().effective_dimension(shift)
        if not self.is_known or not self.outside.shape[1]:
            return own
        kept, left_out = (
            float((counts * values / (values + shift)).sum()) for values, counts in (self.inside, self.outside)
        )
        return own * (kept + left_out) / kept if kept > 0 else own

    @classmethod
    def of(cls, values: Tensor, inside: Tensor, outside: Tensor) -> Partial:
        """From eigenvalues, of which rounding may have left some negative."""
        found = values.double().clamp_min(0)
        return cls(found, torch.ones_like(found), inside.double(), outside.double())


def resolved(damping: Damping, spectrum: Partial, n: int, penalty: float) -> float:
    """The absolute δ.

    Raises
    ------
    InputError
        If it is no damping, or a row says too little for it.
    """
    if damping == "auto":
        damping = MeanLeverage()
    if isinstance(damping, MeanLeverage):
        most = math.inf if spectrum.is_known else LARGEST_SHARE * len(spectrum.values) / n
        return damping_at(spectrum, n, penalty, min(damping.share, most))
    if isinstance(damping, MeanEigenvalue):
        return damping.multiple * (float(spectrum.values.mean()) + penalty)
    try:
        absolute = scalars.number("damping", damping, least=0)
    except InputError:
        raise InputError(
            f"damping: give a finite number ≥ 0, 'auto', inverse.MeanEigenvalue(multiple) or "
            f"inverse.MeanLeverage(share); got {scalars.shown(damping)}"
        ) from None
    return scalars.number("damping", absolute, most=math.sqrt(torch.finfo(torch.float32).max))
