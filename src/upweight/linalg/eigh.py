"""Eigendecompositions of symmetric matrices, and which eigenvalues are rounding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from upweight.linalg.rows import relative

ROUNDING = 10.0
"""Multiples of the precision up to which an eigenvalue of a matrix with a unit diagonal is rounding."""
GOOD, PROBES = 50.0, 8
"""Multiples of the precision by which eigenvectors may miss, and vectors on which they are tried."""


def eigh(matrix: Float[Tensor, "r r"]) -> tuple[Float[Tensor, " r"], Float[Tensor, "r r"]]:
    """Eigenvalues, ascending, and eigenvectors as columns, of the symmetric part; by float64 on the CPU."""
    wide = matrix.detach().cpu().double()
    values, vectors = torch.linalg.eigh((wide + wide.T) / 2)
    return values.to(matrix), vectors.to(matrix)


def eigenvectors(matrix: Float[Tensor, "r r"], dtype: torch.dtype) -> tuple[Float[Tensor, " r"], Float[Tensor, "r r"]]:
    """Eigenvalues, ascending, and eigenvectors as columns, in a precision, and by it wherever that is good enough.

    Good enough are vectors that are orthogonal, and invariant under the matrix, to `GOOD` times the precision, tried on
    `PROBES` random vectors; else float64 on the CPU decides.
    """
    if dtype == torch.float64:
        return eigh(matrix.double())
    size = matrix.abs().max()
    scaled = (matrix / torch.where(size > 0, size, 1.0)).to(dtype)  # squares of small numbers are denormal
    try:
        values, vectors = torch.linalg.eigh(scaled)
    except torch.linalg.LinAlgError:
        values, vectors = scaled.new_full((len(scaled),), torch.nan), scaled
    if bool(_misses(scaled, values, vectors) <= GOOD * torch.finfo(dtype).eps):
        return values * size.to(dtype), vectors
    values, vectors = eigh(matrix.double())
    return values.to(dtype), vectors.to(dtype)


def _misses(matrix: Float[Tensor, "r r"], values: Float[Tensor, " r"], vectors: Float[Tensor, "r r"]) -> Tensor:
    """By how much vectors miss being orthogonal, and the matrix's, relative to its norm; whichever is more."""
    drawn = torch.randn(len(values), PROBES, generator=torch.Generator().manual_seed(len(values)), dtype=torch.float64)
    probes = drawn.to(matrix)
    turned = vectors @ probes
    apart = (vectors.T @ turned - probes).norm() / probes.norm()
    moved = (matrix @ turned - vectors @ (values[:, None] * probes)).norm() / turned.norm()
    largest = values.abs().max()
    return torch.maximum(apart, torch.where(largest > 0, moved / largest, moved))


def unit_diagonal(
    matrix: Float[Tensor, "p p"], damping: float = 0.0
) -> tuple[Float[Tensor, "p p"], Float[Tensor, " p"]]:
    """S(A + δI)S with a diagonal of ones (what it was where it isn't positive), and the diagonal of S.

    Nothing then depends on the units of rows and columns.
    """
    damped = matrix.clone()
    diagonal = damped.diagonal()
    diagonal.add_(damping)
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    return damped.mul_(scale[:, None]).mul_(scale), scale


@dataclass(frozen=True)
class Eigen:
    """Eigenvalues, ascending, and vectors of a symmetric matrix, and which of them aren't rounding."""

    values: Float[Tensor, " p"]
    vectors: Float[Tensor, "p p"]
    kept: Bool[Tensor, " p"]

    @classmethod
    def of(cls, matrix: Float[Tensor, "p p"], precision: float, is_positive: bool = False) -> Eigen:
        """By float64, of a matrix whose entries are right to ``precision``.

        Of one that is positive semi-definite by its form, its negative eigenvalues tell how large rounding is.
        """
        values, vectors = torch.linalg.eigh(matrix.double())
        noise = precision * float(values.abs().max())
        if is_positive:
            noise = max(noise, -float(values[0]))
        return cls(values, vectors, values.abs() > ROUNDING * noise)

    def solve(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """The pseudo-inverse times k vectors as rows."""
        inverse = torch.where(self.kept, 1 / torch.where(self.kept, self.values, 1.0), 0.0)
        return ((vectors.double() @ self.vectors) * inverse @ self.vectors.T).to(vectors.dtype)

    def left_out(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
        """The share of each vector's norm along the directions left out."""
        parts = vectors.double() @ self.vectors
        return relative(torch.where(self.kept, 0.0, parts), parts)


def pencil(
    matrix: Float[Tensor, "k k"], metric: Float[Tensor, "k k"]
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k k"]]:
    """Eigenvalues μ, ascending, of A x = μ B x, and the x as columns with xᵀBx = 1, for a positive semi-definite B.

    By the symmetric parts in float64, B at unit diagonal; where B is singular to rounding an x is as long as that
    allows.
    """
    finfo = torch.finfo(torch.float64)
    first, second = matrix.double(), metric.double()
    scale = second.diagonal().clamp_min(finfo.tiny).rsqrt()
    values, basis = torch.linalg.eigh(scale[:, None] * (second + second.T) / 2 * scale)
    basis = basis * values.clamp_min(finfo.eps).rsqrt() * scale[:, None]
    found, turn = torch.linalg.eigh(basis.T @ ((first + first.T) / 2) @ basis)
    return found, basis @ turn
