"""The diagonal of the curvature alone."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field

import torch

from upweight import kinds
from upweight.curvature import Fisher, Operator, RowCurvature
from upweight.curvature.eigenbasis import Basis
from upweight.inverse.costs import Counts, Work, diagonal_stages
from upweight.inverse.damping import Damping
from upweight.inverse.eigenbasis import EigenSolver, rows_of
from upweight.inverse.ekfac import diagonalised
from upweight.objective import Objective


@dataclass(frozen=True)
class Diagonal:
    """diag(Σ rows²) + diag(λ) + δI: one pass, and p numbers.

    Parameters
    ----------
    curvature
        ``Fisher(samples, seed)``, ``EmpiricalFisher()`` or ``GGN()``.
    damping
        δ; > 0 wherever a parameter without l2 has no curvature.

    Raises
    ------
    InputError
        If a gradient is NaN, with its training example; if an entry of the damped diagonal is 0.
    """

    curvature: RowCurvature = field(default_factory=Fisher)
    _: KW_ONLY
    damping: Damping = "auto"

    def __post_init__(self) -> None:
        kinds.check_fields(self)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(diagonal_stages(counts)))

    def fit(self, target: Objective | Operator) -> EigenSolver:
        """One pass over the rows."""
        rows = rows_of(target, self.curvature, "Diagonal")
        first = rows.factors(torch.arange(min(2, len(rows))))
        bases = [Basis(block.shape) for block in first.blocks]
        return EigenSolver.of(diagonalised(rows, bases, f"diagonal of the {rows.name}"), self.damping)
