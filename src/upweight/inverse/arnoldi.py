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

from upweight import kinds, scalars
from upweight.curvature import GGN, Curvature, Operator
from upweight.inverse.costs import Counts, Work, low_rank_stages, name_of_curvature
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import operator_of
from upweight.inverse.low_rank import (
    ROUNDING,
    Complement,
    Eigenpairs,
    LowRankSolver,
    Unpenalized,
)
from upweight.linalg.eigh import eigh
from upweight.linalg.lanczos import lanczos
from upweight.objective import Objective
from upweight.progress import watched


@dataclass(frozen=True)
class Arnoldi:
    """The eigenvectors of largest |eigenvalue|, as Lanczos's iteration finds them.

    Parameters
    ----------
    rank
        Eigenpairs kept, from 1 to p.
    curvature
        The GGN, which has no negative eigenvalues to spend the rank on; the paper takes ``curvature.Hessian()``.
    damping
        δ: a number ≥ 0 (default 0), ``auto`` or a rule such as `MeanEigenvalue`.
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

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        name, p = name_of_curvature(self), counts.objective.p
        stages = low_rank_stages(
            counts,
            name,
            min(self.rank, p),
            self._products(p),
            together=False,
            residuals=self.residuals,
            timed=timed,
        )
        return Work(tuple(stages))

    def _products(self, size: int) -> int:
        return min(2 * self.rank, size) if self.iterations is None else self.iterations

    def fit(self, target: Objective | Operator) -> LowRankSolver:
        """Run the iteration and keep what dominates."""
        operator = operator_of(target, self.curvature)
        scalars.whole("rank", self.rank, 1, operator.size)
        iterations = self._products(operator.size)
        scalars.whole("iterations", iterations, self.rank, operator.size)
        damping = resolve(self.damping, operator)
        matrix = Unpenalized.of(operator)
        generator = scalars.generator(self.seed)
        start = matrix.gaussian(1, generator)
        found = lanczos(
            matrix.apply,
            start / start.norm(),
            iterations,
            fresh=lambda: matrix.gaussian(1, generator),
            watch=watched("Arnoldi iterations"),
        )
        assert found.basis is not None
        values, turn = eigh(found.tridiagonal[0])
        kept = values.abs().argsort(descending=True)[: self.rank]
        pairs = Eigenpairs(values[kept], turn[:, kept].T @ found.basis[0], matrix.penalty, ROUNDING * found.error)
        return LowRankSolver.of(
            operator, pairs, damping, self.complement, self.residuals, "Arnoldi projection", iterations
        )
