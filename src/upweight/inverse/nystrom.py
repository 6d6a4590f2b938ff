"""(H + δI)⁻¹ by a randomised Nyström approximation: one pass over the data, for a positive semi-definite matrix.

Frangella, Tropp & Udell (2021), "Randomized Nyström preconditioning", algorithm 2.1. With Ω an orthonormal test
matrix of r rows and Y = ΩB: B ≈ Yᵀ(YΩᵀ)⁻¹Y, the best that can be said of a positive semi-definite B from Y, and
never more than B. It differs from the paper in: 1. the penalty of an objective is not sketched but added exactly;
2. the shift ν that keeps the Cholesky factor real is no smaller than the error of the products, as their asymmetry
shows it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import GGN, Curvature, Operator
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import name_of, operator_of
from upweight.inverse.low_rank import (
    ROUNDING,
    Complement,
    Eigenpairs,
    LowRankSolver,
    Unpenalized,
    eigh,
)
from upweight.messages import NegativeCurvatureError
from upweight.objective import Objective


@dataclass(frozen=True)
class Nystrom:
    """Low-rank approximation of H by ``rank`` random products, all in one pass.

    Parameters
    ----------
    rank
        r, from 1 to p: the products with the matrix. Needs memory for some 4 r p numbers during the fit, r p after.
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

    def fit(self, target: Objective | Operator) -> LowRankSolver:
        """Sketch the matrix."""
        operator = operator_of(target, self.curvature)
        scalars.whole("rank", self.rank, 1, operator.size)
        damping = resolve(self.damping, operator)
        matrix = Unpenalized.of(operator)
        test = matrix.gaussian(self.rank, scalars.generator(self.seed))
        pairs = nystrom(matrix, torch.linalg.qr(test.T)[0].T)
        return LowRankSolver.of(operator, pairs, damping, self.complement, self.residuals, "Nyström approximation")


def nystrom(matrix: Unpenalized, test: Float[Tensor, "r p"]) -> Eigenpairs:
    """The eigenpairs of the approximation from orthonormal test rows Ω, largest first and none negative."""
    sketch = matrix.apply(test)
    core = sketch @ test.T
    noise = max(ROUNDING * torch.finfo(core.dtype).eps * float(sketch.norm()), float((core - core.T).norm()))
    values, turn = eigh(core)
    if float(values[0]) < -noise:
        raise NegativeCurvatureError(
            f"Nystrom: a direction d has dᵀHd/dᵀd = {float(values[0]):.3e} < 0 (l2 and damping aside), so the "
            f"{name_of(matrix.operator)} is not positive semi-definite. Use curvature.GGN(), or inverse.Arnoldi(rank)"
        )
    shift = max(2 * noise, torch.finfo(core.dtype).tiny)  # a matrix of zeros has no noise
    # By eigenvectors in place of the paper's Cholesky factor: any square root of the core serves.
    root = (turn / (values + shift).sqrt()).T @ (sketch + shift * test)
    basis, triangle = torch.linalg.qr(root.T)
    squares, turn = eigh(triangle @ triangle.T)
    found = (squares - shift).clamp_min(0).flip(0)
    return Eigenpairs(found, (basis @ turn).T.flip(0), matrix.penalty, noise / max(float(found[0]), shift))
