"""(H + δI)⁻¹ by factorising the whole matrix: exact, for p up to about ten thousand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.curvature import Curvature, Hessian, Operator
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import (
    Solution,
    SolveReport,
    checked,
    default_tolerance,
    name_of,
    operator_of,
    relative,
    smallest_quotient,
)
from upweight.messages import InputError, NegativeCurvatureError
from upweight.objective import Objective

LARGEST = 20_000
"""p beyond which the matrix (8 p² bytes, twice) is refused rather than swapped to disk."""


@dataclass(frozen=True)
class Dense:
    """Cholesky factor (``cholesky``) or eigendecomposition (``eigen``) of H + δI.

    ``eigen`` costs some ten times more, and then any damping is free (`DenseSolver.with_damping`). It solves
    indefinite matrices too, where no eigenvalue + δ is zero, if ``indefinite`` is set.

    Raises
    ------
    NegativeCurvatureError
        If damping ≤ −λ_min, so that H + δI is not positive definite; the message gives λ_min.
    """

    curvature: Curvature = field(default_factory=Hessian)
    damping: Damping = 0.0
    method: Literal["cholesky", "eigen"] = "cholesky"
    indefinite: bool = False

    def __post_init__(self) -> None:
        scalars.one_of("method", self.method, ("cholesky", "eigen"))
        scalars.flag("indefinite", self.indefinite)

    def fit(self, target: Objective | Operator) -> DenseSolver:
        """Build the matrix and factorise it."""
        operator = operator_of(target, self.curvature)
        if operator.size > LARGEST:
            raise InputError(
                f"inverse.Dense: p={operator.size:,} needs {16 * operator.size**2 / 2**30:.0f} GiB; "
                f"up to {LARGEST:,} are allowed. Use inverse.CG(...)"
            )
        damping = resolve(self.damping, operator)
        return DenseSolver.factorised(operator, operator.dense(), damping, self)


@dataclass(frozen=True)
class DenseSolver:
    """A factorised H + δI."""

    operator: Operator
    damping: float
    matrix: Float[Tensor, "p p"]
    settings: Dense
    cholesky: Float[Tensor, "p p"] | None = None
    eigen: tuple[Float[Tensor, " p"], Float[Tensor, "p p"]] | None = None

    @classmethod
    def factorised(cls, operator: Operator, matrix: Tensor, damping: float, settings: Dense) -> DenseSolver:
        """Factorise matrix + δI by the method of the settings."""
        if settings.method == "eigen" or settings.indefinite:
            values, vectors = torch.linalg.eigh(matrix.double())
            solver = cls(operator, damping, matrix, settings, eigen=(values, vectors))
            return solver._checked_spectrum()
        damped = matrix.clone()
        damped.diagonal().add_(damping)
        factor, info = torch.linalg.cholesky_ex(damped)
        pivots = factor.diagonal() ** 2
        # A matrix that is singular to rounding may have a factor all the same; solutions would be noise.
        if int(info) != 0 or pivots.min() <= torch.finfo(pivots.dtype).eps * pivots.max():
            raise _not_positive(name_of(operator), torch.linalg.eigvalsh(matrix.double()), damping)
        return cls(operator, damping, matrix, settings, cholesky=factor)

    def _checked_spectrum(self) -> DenseSolver:
        assert self.eigen is not None
        shifted = self.eigen[0] + self.damping
        tiny = torch.finfo(self.matrix.dtype).eps * shifted.abs().max()
        if (shifted.abs() <= tiny).any() or (not self.settings.indefinite and shifted[0] <= 0):
            raise _not_positive(name_of(self.operator), self.eigen[0], self.damping)
        return self

    def with_damping(self, damping: Damping) -> DenseSolver:
        """The same matrix with another δ; the matrix is not built again."""
        absolute = resolve(damping, self.operator)
        if self.eigen is not None:
            return replace(self, damping=absolute)._checked_spectrum()
        return DenseSolver.factorised(self.operator, self.matrix, absolute, self.settings)

    def _inverse(self, vectors: Tensor) -> Tensor:
        if self.cholesky is not None:
            return torch.cholesky_solve(vectors.T, self.cholesky).T
        assert self.eigen is not None
        values, basis = self.eigen
        return ((vectors.double() @ basis) / (values + self.damping) @ basis.T).to(vectors.dtype)

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """X = V (H+δI)⁻¹, with a step of iterative refinement where rounding left more than the precision can do."""
        vectors = checked(vectors, self.operator)
        x = self._inverse(vectors)
        product = self._product(x)
        if (relative(vectors - product, vectors) > default_tolerance(vectors.dtype)).any():
            x = x + self._inverse(vectors - product)
            product = self._product(x)
        report = SolveReport(
            solver=f"dense {self.settings.method} of the {name_of(self.operator)}",
            damping=self.damping,
            iterations=0,
            residuals=relative(vectors - product, vectors),
            tolerance=100 * default_tolerance(vectors.dtype),
            smallest_curvature=smallest_quotient(x, product),
        )
        return Solution(x, report)

    def _product(self, x: Tensor) -> Tensor:
        return x @ self.matrix + self.damping * x


def _not_positive(name: str, eigenvalues: Float[Tensor, " p"], damping: float) -> NegativeCurvatureError:
    smallest = float(eigenvalues[0])
    rounding = len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * float(eigenvalues.abs().max())
    needed = (
        f"damping > {-smallest:.3g}"
        if smallest < -rounding
        else f"a larger damping, or l2 > 0 (λ_min = {smallest:.1e})"
    )
    return NegativeCurvatureError(
        f"{name} + δI is not positive definite: its smallest eigenvalue is {smallest:.3e} and damping is "
        f"{damping:.3g}. Use {needed}, curvature.GGN(), or train to a minimum"
    )
