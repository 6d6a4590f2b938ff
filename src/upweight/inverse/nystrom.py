"""(H + δI)⁻¹ by a randomised Nyström approximation: one pass over the data, for a positive semi-definite matrix.

Frangella, Tropp & Udell (2021), "Randomized Nyström preconditioning", algorithm 2.1 (`upweight.linalg.nystrom`). It
differs from the paper in that the penalty of an objective is not sketched but added exactly.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import get_args

import torch

from upweight import kinds, scalars
from upweight.curvature import GGN, Curvature, Operator
from upweight.errors import NegativeCurvatureError
from upweight.inverse.costs import Counts, Work, low_rank_stages, name_of_curvature
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import name_of, operator_of
from upweight.inverse.low_rank import (
    Complement,
    Eigenpairs,
    LowRankSolver,
    Unpenalized,
)
from upweight.linalg.errors import NotPositiveError
from upweight.linalg.nystrom import nystrom
from upweight.objective import Objective


@dataclass(frozen=True)
class Nystrom:
    """Low-rank approximation of H by ``rank`` random products, all in one pass.

    Parameters
    ----------
    rank
        r, from 1 to p: the products with the matrix. Needs memory for some 4 r p numbers during the fit, r p after.
    curvature
        H, positive semi-definite (default ``GGN()``).
    damping
        Must be > 0 where the objective has no l2: the approximation is singular.
    complement
        What H + δI counts as off the eigenvectors: ``smallest``, as the smallest eigenvalue known; ``damp``, as
        l2 + δ, which gives the inverse of the approximation itself; ``drop``, as infinite.
    seed
        Of the random test matrix.
    residuals
        Whether each solve measures its true residual, by one product with the matrix for each solution; without,
        a solve costs no product at all and its report says nan.

    Raises
    ------
    NegativeCurvatureError
        If the matrix is seen not to be positive semi-definite; the message gives the figure.
    """

    rank: int
    curvature: Curvature = field(default_factory=GGN)
    _: KW_ONLY
    damping: Damping = 0.0
    complement: Complement = "smallest"
    seed: int = 0
    residuals: bool = True

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.whole("rank", self.rank)
        scalars.one_of("complement", self.complement, get_args(Complement))
        scalars.seed("seed", self.seed)
        scalars.flag("residuals", self.residuals)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        name, rank = name_of_curvature(self), min(self.rank, counts.objective.p)
        stages = low_rank_stages(counts, name, rank, rank, together=True, residuals=self.residuals, timed=timed)
        return Work(tuple(stages))

    def fit(self, target: Objective | Operator) -> LowRankSolver:
        """Sketch the matrix."""
        operator = operator_of(target, self.curvature)
        scalars.whole("rank", self.rank, 1, operator.size)
        damping = resolve(self.damping, operator)
        matrix = Unpenalized.of(operator)
        test = matrix.gaussian(self.rank, scalars.generator(self.seed))
        try:
            values, vectors, noise = nystrom(matrix.apply, torch.linalg.qr(test.T)[0].T)
        except NotPositiveError as met:
            raise NegativeCurvatureError(
                f"Nystrom: a direction d has dᵀHd/dᵀd = {met.quotient:.3e} < 0 (l2 and damping aside), so the "
                f"{name_of(operator)} is not positive semi-definite. Use curvature.GGN(), or inverse.Arnoldi(rank)"
            ) from None
        pairs = Eigenpairs(values, vectors, matrix.penalty, noise)
        return LowRankSolver.of(
            operator, pairs, damping, self.complement, self.residuals, "Nyström approximation", self.rank
        )
