"""Damped inverses of a matrix known by a few eigenpairs: what `Nystrom` and `Arnoldi` share.

Conventions: eigenvectors are rows ``[r, p]``. A matrix H = B + diag(λ) is kept as the eigenpairs of B, the part
without the penalty, and the penalty itself, so that H + δI ≈ UᵀSU + diag(λ + δ) and no rank is spent on λ. Another
δ costs no product with the data. Eigendecompositions of r × r matrices are made in float64 on the CPU, whatever the
matrix's own precision and device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import Operator
from upweight.errors import InputError, NegativeCurvatureError, NegativeCurvatureWarning, warn
from upweight.inverse.costs import Counts, Work, low_rank_stages, name_of_curvature
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.interface import Solution, SolveReport, checked, name_of
from upweight.linalg.eigh import eigh
from upweight.linalg.rows import relative, smallest_quotient
from upweight.objective import Objective

Complement = Literal["smallest", "damp", "drop"]
"""What H + δI counts as off the eigenvectors.

``smallest``: as the smallest eigenvalue known, damping included; what is unknown is mostly between that and δ (the
choice of Frangella et al. 2021 for preconditioners). ``damp``: as penalty and damping alone, so that the inverse is
that of the approximation itself. ``drop``: as infinite; the inverse is a projection (Schioppa et al. 2022).

Measured on digits (LDS at damping .001/.01/.1, the dense inverse reaching .685/.742/.561), Arnoldi of rank 50:
smallest .727/.716/.557, damp .400/.671/.567, drop .560/.563/.486.
"""

ROUNDING = 10
"""Multiple of the precision below which an eigenvalue is noise."""


@dataclass(frozen=True)
class Eigenpairs:
    """B ≈ Σ s_i u_iᵀu_i of a matrix B + diag(λ).

    Attributes
    ----------
    values
        s ``[r]``.
    vectors
        The orthonormal u_i as rows, ``[r, p]``.
    penalty
        λ of each parameter, ``[p]``.
    noise
        What the products' rounding may have added to an s, in units of the largest.
    """

    values: Float[Tensor, " r"]
    vectors: Float[Tensor, "r p"]
    penalty: Float[Tensor, " p"]
    noise: float

    def damped(self, damping: float, complement: Complement) -> DampedEigenpairs:
        """The eigenpairs of B + diag(λ + δ), those of negative curvature left out with a warning.

        Raises
        ------
        InputError
            If the matrix has no inverse off the eigenvectors: λ + δ ≤ 0 somewhere.
        NegativeCurvatureError
            If no eigenvalue is positive.
        """
        floors = self.penalty + damping
        if len(self.values) == len(floors) and not bool((floors > 0).all()):
            return self._whole(floors, damping, complement)
        uniform = bool((floors == floors[0]).all())
        if not bool((floors > 0).all()) and (complement != "drop" or not uniform):
            raise InputError(
                f"damping: {damping:g} leaves a matrix of rank {len(self.values)} singular among p={len(floors):,} "
                "parameters, for some have no l2; give damping > 0 (or inverse.MeanEigenvalue(0.1)), or l2 > 0 in "
                "the objective"
            )
        if uniform:
            shifted = DampedEigenpairs(self.values + floors[0], self.vectors, float(floors[0]))
            return shifted.positive(damping, self.noise)
        # With D = diag(λ + δ): B + D = D^½ (D^-½ B D^-½ + I) D^½, and the middle has rank r again.
        scaling = floors.rsqrt()
        basis, triangle = torch.linalg.qr((self.vectors * scaling).T)
        values, turn = eigh(triangle * self.values @ triangle.T)
        scaled = DampedEigenpairs(1 + values, (basis @ turn).T, 1.0, scaling)
        return scaled.positive(damping, self.noise)

    def _whole(self, floors: Float[Tensor, " p"], damping: float, complement: Complement) -> DampedEigenpairs:
        """All eigenpairs are known, and so those of B + diag(λ + δ): nothing is off them."""
        turned = (self.vectors * floors) @ self.vectors.T
        values, turn = eigh(turned + torch.diag(self.values))
        known = DampedEigenpairs(values, turn.T @ self.vectors, float(floors.min())).positive(damping, self.noise)
        if complement == "damp" and known.floor <= 0 and len(known.values) < len(floors):
            raise InputError(
                f"damping: {damping:g} leaves {len(floors) - len(known.values):,} of {len(floors):,} directions "
                "singular; give damping > 0, l2 > 0 in the objective, or complement='drop'"
            )
        return known


@dataclass(frozen=True)
class DampedEigenpairs:
    """The damped matrix D^½ (UᵀSU + f (I − UᵀU)) D^½.

    Attributes
    ----------
    values, vectors
        s ``[r]`` and U ``[r, p]``.
    floor
        f, the eigenvalue of everything off U.
    scaling
        The diagonal of D^-½ ``[p]``, None for the identity.
    """

    values: Float[Tensor, " r"]
    vectors: Float[Tensor, "r p"]
    floor: float
    scaling: Float[Tensor, " p"] | None = None

    def positive(self, damping: float, noise: float) -> DampedEigenpairs:
        """Without directions of negative curvature dᵀHd < 0, in order of eigenvalues, the largest first.

        They go even where damping outweighs them: that would make them, meaningless as they are, count the most.
        Measured on digits, Arnoldi of the Hessian, rank 200, complement dropped: LDS at damping .01/.03 is .65/.44
        with them and .70/.66 without.
        """
        lengths = 1.0 if self.scaling is None else ((self.vectors * self.scaling) ** 2).sum(1)
        curvature = self.values - damping * lengths
        largest = float(self.values.abs().max())
        negative = curvature < -noise * largest
        keep = (self.values > ROUNDING * torch.finfo(self.values.dtype).eps * largest) & ~negative
        if not keep.any():
            raise NegativeCurvatureError(
                f"no eigenvalue found is positive: the largest is {float(curvature.max()):.3e}. Use curvature.GGN(), "
                "or train to a minimum"
            )
        if negative.any():
            share = curvature[negative].abs().sum() / curvature.abs().sum()
            warn(
                f"{int(negative.sum())} of {len(curvature)} eigenvalues found are negative, down to "
                f"{float(curvature.min()):.2e} beside a largest of {float(curvature.max()):.2e}; their directions "
                f"({float(share):.1%} of the sum of |eigenvalues|) count as if they had not been found. Use "
                "curvature.GGN(), or train to a minimum",
                NegativeCurvatureWarning,
            )
        order = self.values[keep].argsort(descending=True)
        return replace(self, values=self.values[keep][order], vectors=self.vectors[keep][order])

    def inverse(self, rows: Float[Tensor, "k p"], complement: Complement) -> Float[Tensor, "k p"]:
        """The inverse applied to rows."""
        rows = rows if self.scaling is None else rows * self.scaling
        if complement == "drop" or len(self.vectors) == self.vectors.shape[1]:  # nothing is off them
            off = 0.0
        else:
            off = 1 / (self.floor if complement == "damp" else float(self.values[-1]))
        weights = 1 / self.values - off
        x = torch.addmm(rows, (rows @ self.vectors.T) * weights, self.vectors, beta=off)
        return x if self.scaling is None else x * self.scaling


@dataclass(frozen=True)
class LowRankSolver:
    """(H + δI)⁻¹ by eigenpairs of H.

    Attributes
    ----------
    operator, damping
        H, and the absolute δ.
    pairs
        What was found of H; no damping changes it.
    damped
        The same with the damping in it.
    complement
        What becomes of a vector's part off the eigenvectors.
    residuals
        Whether a solve measures its residual, by one product of each solution with the matrix.
    name
        The algorithm in words.
    products
        With the matrix, which the fit took.
    """

    operator: Operator
    damping: float
    pairs: Eigenpairs
    damped: DampedEigenpairs
    complement: Complement
    residuals: bool
    name: str
    products: int

    @classmethod
    def of(
        cls,
        operator: Operator,
        pairs: Eigenpairs,
        damping: float,
        complement: Complement,
        residuals: bool,
        name: str,
        products: int,
    ) -> LowRankSolver:
        """The solver of these eigenpairs at this damping."""
        damped = pairs.damped(damping, complement)
        return cls(operator, damping, pairs, damped, complement, residuals, name, products)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        rank, name = len(self.pairs.values), name_of_curvature(self)
        stages = low_rank_stages(
            counts, name, rank, self.products, together=True, residuals=self.residuals, timed=timed
        )
        return Work(tuple(stages))

    def with_damping(self, damping: Damping) -> LowRankSolver:
        """The same eigenpairs with another δ: the fit is not repeated."""
        absolute = resolve(damping, self.operator)
        return replace(self, damping=absolute, damped=self.pairs.damped(absolute, self.complement))

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """V (H+δI)⁻¹ as far as the eigenpairs know it; the report says how far that is."""
        vectors = checked(vectors, self.operator)
        x = self._inverse(vectors, self.complement)
        residuals, smallest = vectors.new_full((len(vectors),), math.nan), math.nan
        if self.residuals:
            product = self.operator.apply(x) + self.damping * x
            residuals, smallest = relative(vectors - product, vectors), smallest_quotient(x, product)
        report = SolveReport(
            solver=f"{self.name} of rank {len(self.damped.values)} of the {name_of(self.operator)}, the rest as "
            f"{self.complement!r}",
            damping=self.damping,
            iterations=0,
            residuals=residuals,
            tolerance=math.nan,
            smallest_curvature=smallest,
        )
        return Solution(x, report)

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V P⁻¹ with P⁻¹ = UᵀS⁻¹U + (I − UᵀU)/s_r, s_r the smallest damped eigenvalue that is known.

        Positive definite whatever the complement is; that of Frangella et al. (2021, eq. 5.3) but for a factor s_r.
        """
        return self._inverse(vectors, "smallest")

    def _inverse(self, vectors: Tensor, complement: Complement) -> Tensor:
        return self.damped.inverse(vectors.to(self.pairs.vectors.dtype), complement).to(vectors.dtype)


@dataclass(frozen=True)
class Unpenalized:
    """B of H = B + diag(λ), in H's precision but at least float32: factorisations know no shorter one."""

    operator: Operator
    penalty: Float[Tensor, " p"]

    @classmethod
    def of(cls, operator: Operator) -> Unpenalized:
        """The operator of an objective without its l2; any other as it is, with λ = 0."""
        objective = getattr(operator, "objective", None)
        if isinstance(objective, Objective) and getattr(operator, "penalized", True):
            penalty = objective.l2
        else:
            penalty = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
        return cls(operator, penalty.to(torch.promote_types(operator.dtype, torch.float32)))

    def apply(self, rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows."""
        return self.operator.apply(rows.to(self.operator.dtype)).to(rows.dtype) - self.penalty * rows

    def gaussian(self, rows: int, generator: torch.Generator) -> Float[Tensor, "k p"]:
        """Standard normal rows, drawn on the CPU and in float64: a seed means the same everywhere."""
        return torch.randn(rows, self.operator.size, generator=generator, dtype=torch.float64).to(self.penalty)
