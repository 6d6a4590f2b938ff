"""(H + δI)⁻¹ by factorising the whole matrix: exact, for p up to about ten thousand."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Curvature, Hessian, ObjectiveCurvature, Operator
from upweight.errors import InputError, NegativeCurvatureError, UpweightWarning, warn
from upweight.inverse.costs import Counts, Work, dense_stages, name_of_curvature
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import (
    Solution,
    SolveReport,
    checked,
    default_tolerance,
    name_of,
    operator_of,
)
from upweight.linalg.eigh import ROUNDING, Eigen, unit_diagonal
from upweight.linalg.rows import relative, smallest_quotient
from upweight.losses import CrossEntropy
from upweight.objective import Objective

LARGEST = 20_000
"""p beyond which the matrix (8 p² bytes, twice) is refused rather than swapped to disk."""
OUTSIDE = 0.01
"""Share of a vector along directions left out from which a warning says so."""
Singular = Literal["refuse", "pseudo"]


@dataclass(frozen=True)
class Dense:
    """Cholesky factor (``cholesky``) or eigendecomposition (``eigen``) of H + δI.

    The matrix is first brought to a unit diagonal, so that nothing depends on the units of parameters and inputs.
    ``eigen`` costs some ten times more, and then any damping is free (`DenseSolver.with_damping`). It solves
    indefinite matrices too, where no eigenvalue + δ is zero, if ``indefinite`` is set.

    Parameters
    ----------
    curvature
        H (default ``Hessian()``).
    damping
        δ: a number ≥ 0 (default 0), ``auto`` or a rule such as `MeanEigenvalue`.
    method
        ``cholesky`` (default) or ``eigen``.
    indefinite
        Whether negative eigenvalues of H + δI are inverted as they are, by ``eigen`` whatever the method; default:
        refused.
    singular
        What to do where H + δI is singular to rounding (a softmax without l2, columns that depend on each other):
        ``refuse`` it, or take the ``pseudo``-inverse, which leaves such directions out and says so in a warning. Where
        outputs are linear in θ and the loss is convex, no training gradient has a part along them, so nothing is lost;
        another warning says what share of a vector does.

    Raises
    ------
    NegativeCurvatureError
        If damping ≤ −λ_min, so that H + δI is not positive definite, or if it is singular and to be refused; the
        message gives the figure.
    """

    curvature: Curvature = field(default_factory=Hessian)
    _: KW_ONLY
    damping: Damping = 0.0
    method: Literal["cholesky", "eigen"] = "cholesky"
    indefinite: bool = False
    singular: Singular = "refuse"

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        scalars.one_of("method", self.method, ("cholesky", "eigen"))
        scalars.one_of("singular", self.singular, get_args(Singular))
        scalars.flag("indefinite", self.indefinite)

    def fit(self, target: Objective | Operator) -> DenseSolver:
        """Build the matrix and factorise it.

        Raises
        ------
        InputError
            If p is above 20,000, with the memory that the matrix would take.
        NegativeCurvatureError
            If H + δI isn't positive definite, or is singular, and that is to be refused.
        """
        operator = operator_of(target, self.curvature)
        if operator.size > LARGEST:
            raise InputError(
                f"inverse.Dense: p={operator.size:,} needs {16 * operator.size**2 / 2**30:.0f} GiB; "
                f"up to {LARGEST:,} are allowed. Use inverse.CG(...)"
            )
        damping = resolve(self.damping, operator)
        return DenseSolver.factorised(operator, operator.dense(), damping, self)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return _work(counts, self, self.damping != 0, name_of_curvature(self), timed)


@dataclass(frozen=True)
class DenseSolver:
    """A factorised H + δI, as S(H + δI)S with S = diag(``scale``) and a unit diagonal.

    With ``plain`` the spectrum of H itself, from which any damping is free.
    """

    operator: Operator
    damping: float
    matrix: Float[Tensor, "p p"]
    settings: Dense
    scale: Float[Tensor, " p"]
    cholesky: Float[Tensor, "p p"] | None = None
    eigen: Eigen | None = None
    plain: tuple[Float[Tensor, " p"], Float[Tensor, "p p"]] | None = None

    @classmethod
    def factorised(cls, operator: Operator, matrix: Tensor, damping: float, settings: Dense) -> DenseSolver:
        """Factorise matrix + δI by the method of the settings."""
        if settings.method == "eigen" or settings.indefinite:
            values, vectors = torch.linalg.eigh(matrix.double())
            scale = torch.ones_like(matrix[0])
            return cls(operator, damping, matrix, settings, scale, plain=(values, vectors))._checked_spectrum()
        scaled, scale = _unit_diagonal(operator, matrix, damping)
        factor, info = torch.linalg.cholesky_ex(scaled)
        pivots = factor.diagonal() ** 2
        # A matrix that is singular to rounding may have a factor all the same; solutions would be noise.
        if int(info) == 0 and pivots.min() > ROUNDING * torch.finfo(factor.dtype).eps * len(pivots) ** 0.5:
            return cls(operator, damping, matrix, settings, scale, cholesky=factor)
        # Rounding is told from curvature in float64, where there is much less of it.
        precision = torch.finfo(matrix.dtype).eps
        if isinstance(operator, ObjectiveCurvature) and matrix.dtype != torch.float64:
            matrix, precision = operator.in_double().dense(), torch.finfo(torch.float64).eps
        scaled, scale = _unit_diagonal(operator, matrix.double(), damping)
        found = Eigen.of(scaled, precision, getattr(operator, "is_positive", False))
        return _checked(cls(operator, damping, matrix.double(), settings, scale, eigen=found))

    def _checked_spectrum(self) -> DenseSolver:
        assert self.plain is not None
        shifted = self.plain[0] + self.damping
        tiny = torch.finfo(self.matrix.dtype).eps * shifted.abs().max()
        if not self.settings.indefinite and shifted[0] < -ROUNDING * tiny:
            raise _not_positive(name_of(self.operator), self.plain[0], self.damping)
        found = Eigen(shifted, self.plain[1], shifted.abs() > tiny)
        _refuse_or_say_singular(found, self)
        return replace(self, eigen=found)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return _work(counts, self.settings, self.damping != 0, name_of_curvature(self), timed)

    def with_damping(self, damping: Damping) -> DenseSolver:
        """The same matrix with another δ; the matrix is not built again."""
        absolute = resolve(damping, self.operator)
        if self.plain is not None:
            return replace(self, damping=absolute)._checked_spectrum()
        return DenseSolver.factorised(self.operator, self.matrix, absolute, self.settings)

    @property
    def left_out(self) -> int:
        """Directions that the pseudo-inverse leaves out."""
        return 0 if self.eigen is None else int((~self.eigen.kept).sum())

    def _inverse(self, scaled: Tensor) -> Tensor:
        """S⁻¹(H+δI)⁻¹S⁻¹ of vectors that are scaled already."""
        if self.cholesky is not None:
            return torch.cholesky_solve(scaled.T, self.cholesky).T
        assert self.eigen is not None
        return self.eigen.solve(scaled)

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (H+δI)⁻¹, with a step of iterative refinement where rounding left more than the precision can do.

        Residuals are those of the scaled system, and in a pseudo-inverse of the part that is solved for.
        """
        scaled = checked(vectors, self.operator).to(self.scale.dtype) * self.scale
        self._warn_of_parts_outside(scaled)
        aim = self._within(scaled)
        x = self._inverse(aim) * self.scale
        product = self._product(x)
        residual = self._within(aim - product * self.scale)
        if (relative(residual, aim) > default_tolerance(vectors.dtype)).any():
            x = x + self._inverse(residual) * self.scale
            product = self._product(x)
            residual = self._within(aim - product * self.scale)
        left_out = f", {self.left_out} of {len(self.scale)} directions left out" if self.left_out else ""
        report = SolveReport(
            solver=f"dense {self.settings.method} of the {name_of(self.operator)}{left_out}",
            damping=self.damping,
            iterations=0,
            residuals=relative(residual, aim).to(vectors.dtype),
            tolerance=100 * default_tolerance(vectors.dtype),
            smallest_curvature=smallest_quotient(x, product),
        )
        return Solution(x.to(vectors.dtype), report)

    def _within(self, scaled: Tensor) -> Tensor:
        """The part of scaled vectors that can be solved for."""
        if not self.left_out:
            return scaled
        assert self.eigen is not None
        basis = self.eigen.vectors[:, self.eigen.kept]
        return (scaled @ basis) @ basis.T

    def _warn_of_parts_outside(self, scaled: Tensor) -> None:
        if not self.left_out or not len(scaled):
            return
        assert self.eigen is not None
        share = float(self.eigen.left_out(scaled).max())
        if share > OUTSIDE:
            warn(
                f"pseudo-inverse: up to {share:.2g} of a vector lies along the {self.left_out} directions in which the "
                f"{name_of(self.operator)} is singular, and is left out; give damping > 0 or l2 > 0 to have it count",
                UpweightWarning,
            )

    def _product(self, x: Tensor) -> Tensor:
        return x @ self.matrix + self.damping * x


def _work(counts: Counts, settings: Dense, damped: bool, curvature: str, timed: bool) -> Work:
    singular = settings.singular == "pseudo" and not damped and may_be_singular(counts.objective)
    spectrum = settings.method == "eigen" or settings.indefinite or singular
    return Work(tuple(dense_stages(counts, curvature, spectrum=spectrum, timed=timed)))


def may_be_singular(objective: Objective) -> bool:
    """Whether a shift of all outputs that a softmax doesn't see is free of penalty, or nothing is penalised."""
    free = objective.l2 == 0
    return bool(free.all()) or (isinstance(objective.loss, CrossEntropy) and bool(free.any()))


def _unit_diagonal(operator: Operator, matrix: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """`unit_diagonal`, where no entry on the diagonal is negative."""
    if not (matrix.diagonal() + damping >= 0).all():
        raise _not_positive(name_of(operator), torch.linalg.eigvalsh(matrix.double()), damping)
    return unit_diagonal(matrix, damping)


def _checked(solver: DenseSolver) -> DenseSolver:
    """The solver; refuses negative curvature, and what is singular if that is to be refused."""
    assert solver.eigen is not None
    if (solver.eigen.values[solver.eigen.kept] < 0).any():
        raise _not_positive(name_of(solver.operator), torch.linalg.eigvalsh(solver.matrix.double()), solver.damping)
    _refuse_or_say_singular(solver.eigen, solver)
    return solver


def _refuse_or_say_singular(found: Eigen, solver: DenseSolver) -> None:
    if found.kept.all():
        return
    left_out, name = found.values[~found.kept], name_of(solver.operator)
    figures = (
        f"{len(left_out)} of {len(found.values)} directions (eigenvalues up to {float(left_out.abs().max()):.1e} where "
        f"the largest is {float(found.values.max()):.1e})"
    )
    if solver.settings.singular == "refuse":
        raise NegativeCurvatureError(
            f"{name} + δI is not positive definite but singular to rounding, at damping {solver.damping:.3g}, along "
            f"{figures}. Give a larger damping or l2 > 0, or leave these directions out: "
            "inverse.Dense(singular='pseudo')"
        )
    warn(
        f"pseudo-inverse: the {name} is singular to rounding along {figures}, which are left out; give damping > 0 or "
        "l2 > 0 to have them count",
        UpweightWarning,
    )


def _not_positive(name: str, eigenvalues: Float[Tensor, " p"], damping: float) -> NegativeCurvatureError:
    smallest = float(eigenvalues[0])
    return NegativeCurvatureError(
        f"{name} + δI is not positive definite: its smallest eigenvalue is {smallest:.3e} and damping is "
        f"{damping:.3g}. Use damping > {-smallest:.3g}, curvature.GGN(), or train to a minimum"
    )
