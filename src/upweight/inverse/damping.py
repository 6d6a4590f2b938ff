"""Forms of the damping δ, each of which resolves to an absolute number shown in results."""

from __future__ import annotations

import math
from dataclasses import dataclass

from upweight.curvature import Operator, mean_eigenvalue
from upweight.messages import InputError


@dataclass(frozen=True)
class MeanEigenvalue:
    """δ = ``multiple`` × the mean eigenvalue tr(H)/p of the curvature (its l2 included)."""

    multiple: float = 0.1
    seed: int = 0


Damping = float | MeanEigenvalue


def resolve(damping: Damping, operator: Operator) -> float:
    """The absolute δ for this matrix.

    Raises
    ------
    InputError
        If it is not a finite number ≥ 0 (use the GGN rather than a negative damping).
    """
    if isinstance(damping, MeanEigenvalue):
        return damping.multiple * mean_eigenvalue(operator, seed=damping.seed)
    if isinstance(damping, bool) or not isinstance(damping, int | float) or not math.isfinite(damping) or damping < 0:
        raise InputError(f"damping: give a finite number ≥ 0 or inverse.MeanEigenvalue(multiple); got {damping!r}")
    return float(damping)
