"""(H + δI)⁻¹ on the span of the dominant eigenvectors: Arnoldi influence (Schioppa et al. 2022, algorithm 1).

For a symmetric matrix Arnoldi's iteration is Lanczos's: from a random vector, one product after the other, each
orthogonalised against all before. The Ritz pairs of largest |eigenvalue| are kept, any sign. It differs from the
paper in: 1. damping is added to the eigenvalues; 2. those that are negative are left out with a warning, for there
influence has no meaning; 3. what is off the eigenvectors counts too, unless it is dropped by ``complement``; 4. an
invariant subspace is left by a fresh random vector, so that ``rank`` = p is exact.
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
from upweight.inverse.interface import operator_of
from upweight.inverse.low_rank import (
    ROUNDING,
    Complement,
    Eigenpairs,
    LowRankSolver,
    Unpenalized,
    eigh,
)
from upweight.objective import Objective
from upweight.progress import track


@dataclass(frozen=True)
class Arnoldi:
    """The eigenvectors of largest |eigenvalue|, as Lanczos's iteration finds them.

    Parameters
    ----------
    rank
        Eigenpairs kept, from 1 to p.
    curvature
        The GGN, which has no negative eigenvalues to spend the rank on; the paper takes ``curvature.Hessian()``.
    complement
        What H + δI counts as off the eigenvectors: ``smallest``, as the smallest eigenvalue kept; ``damp``, as
        l2 + δ; ``drop``, as infinite, so that the inverse is the paper's projection, the only one to allow l2 + δ = 0.
    iterations
        Products with the matrix, one pass each, from ``rank`` to p; default twice the rank.
    seed
        Of the starting vector.
    residuals
        Whether each solve measures its true residual, by one product with the matrix for each solution; without,
        a solve costs no product at all and its report says nan.

    Warns
    -----
    NegativeCurvatureWarning
        If eigenvalues are negative; the message says how many, how far, and their share.
    """

    rank: int
    curvature: Curvature = field(default_factory=GGN)
    _: KW_ONLY
    damping: Damping = 0.0
    complement: Complement = "smallest"
    iterations: int | None = None
    seed: int = 0
    residuals: bool = True

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.whole("rank", self.rank)
        if self.iterations is not None:
            scalars.whole("iterations", self.iterations, self.rank)
        scalars.one_of("complement", self.complement, get_args(Complement))
        scalars.seed("seed", self.seed)
        scalars.flag("residuals", self.residuals)

    def fit(self, target: Objective | Operator) -> LowRankSolver:
        """Run the iteration and keep what dominates."""
        operator = operator_of(target, self.curvature)
        scalars.whole("rank", self.rank, 1, operator.size)
        iterations = min(2 * self.rank, operator.size) if self.iterations is None else self.iterations
        scalars.whole("iterations", iterations, self.rank, operator.size)
        damping = resolve(self.damping, operator)
        matrix = Unpenalized.of(operator)
        tridiagonal, basis, noise = lanczos(matrix, iterations, scalars.generator(self.seed))
        values, turn = eigh(tridiagonal)
        kept = values.abs().argsort(descending=True)[: self.rank]
        pairs = Eigenpairs(values[kept], turn[:, kept].T @ basis, matrix.penalty, noise)
        return LowRankSolver.of(operator, pairs, damping, self.complement, self.residuals, "Arnoldi projection")


def lanczos(
    matrix: Unpenalized, iterations: int, generator: torch.Generator
) -> tuple[Float[Tensor, "k k"], Float[Tensor, "k p"], float]:
    """T tridiagonal and Q orthonormal rows with QBQᵀ = T, each row orthogonalised twice against all before.

    The third is the relative error of the products: how far QBQᵀ, as they give it, is from tridiagonal.
    """
    start = matrix.gaussian(1, generator)[0]
    basis = start.new_zeros(iterations, len(start))
    tridiagonal = start.new_zeros(iterations, iterations)
    basis[0] = start / start.norm()
    scale, error = 0.0, 0.0
    for k in track(range(iterations), "Arnoldi iterations"):
        image = matrix.apply(basis[k : k + 1])[0]
        overlaps = basis[: k + 1] @ image
        tridiagonal[k, k] = overlaps[k]
        scale, error = max(scale, float(image.norm())), max(error, float(overlaps[: max(k - 1, 0)].norm()))
        if k + 1 == iterations:
            break
        rest = _orthogonal(image, basis[: k + 1])
        size = float(rest.norm())
        if size <= ROUNDING * torch.finfo(rest.dtype).eps * scale:  # the rows so far span an invariant subspace
            rest, size = _orthogonal(matrix.gaussian(1, generator)[0], basis[: k + 1]), 0.0
        tridiagonal[k, k + 1] = tridiagonal[k + 1, k] = size
        basis[k + 1] = rest / rest.norm()
    rounding = torch.finfo(start.dtype).eps
    return tridiagonal, basis, ROUNDING * max(rounding, error / scale if scale else 0.0)


def _orthogonal(row: Float[Tensor, " p"], basis: Float[Tensor, "k p"]) -> Float[Tensor, " p"]:
    """What is left of a row off the basis: twice is enough (Parlett 1980, section 6.9)."""
    for _ in range(2):
        row = row - (row @ basis.T) @ basis
    return row
