"""Rows that are factors of every layer's gradient: inner products from factors, the inverse by r coefficients each.

With rows l of the curvature, F = Σ l lᵀ, their Gram matrix K = U diag(w) Uᵀ and the r leading eigenvectors of F,
V = Σ l U/√w, Woodbury's identity gives

    gᵀ(F_r + μI)⁻¹h = (gᵀh − Σ_j w_j/(w_j + μ) (Vᵀg)_j (Vᵀh)_j)/μ,

so every example has its factors and Vᵀg, r numbers that don't depend on the damping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import Rows
from upweight.errors import InputError
from upweight.gradients.denormals import flushed
from upweight.gradients.terms import Outer, gram
from upweight.index.fitted import Fitted
from upweight.index.spectrum import Partial

Shapes = Sequence[tuple[int, int, int]]
NEGLIGIBLE = 1e-6
"""Share of the largest eigenvalue below which an eigenvector is rounding."""


def layers(rows: Float[Tensor, "b k"], shapes: Shapes) -> list[Outer]:
    """The factors in rows, layer by layer."""
    widths = [count * size for count, *sizes in shapes for size in sizes]
    parts, found = iter(rows.split(widths, dim=1)), []
    for count, left, right in shapes:
        found.append(Outer(next(parts).unflatten(1, (count, left)), next(parts).unflatten(1, (count, right))))
    return found


def grams(first: Sequence[Outer], second: Sequence[Outer]) -> Float[Tensor, "m n"]:
    """Inner products of all layers together."""
    total = gram(first[0], second[0])
    for mine, other in zip(first[1:], second[1:], strict=True):
        total += gram(mine, other)
    return total


@dataclass(frozen=True, eq=False)
class FactorCurvature:
    """The rows of the curvature with the eigenvectors of their Gram matrix.

    Attributes
    ----------
    rows, weights
        Factors of the rows ``[m, k]``, and what each is multiplied by ``[m]``.
    values
        w ``[r]``, and of all of them for the spectrum.
    combine
        U/√w ``[m, r]``.
    penalty
        λ.
    """

    rows: Float[Tensor, "m k"]
    weights: Float[Tensor, " m"]
    values: Float[Tensor, " r"]
    combine: Float[Tensor, "m r"]
    penalty: float
    spectrum: Partial
    shapes: Shapes

    @cached_property
    def _held(self) -> list[Outer]:
        return layers(self.rows, self.shapes)

    @cached_property
    def _combined(self) -> Float[Tensor, "m r"]:
        return self.weights[:, None].to(self.rows.dtype) * self.combine.to(self.rows.dtype)

    def coefficients(self, rows: Float[Tensor, "b k"]) -> Float[Tensor, "b r"]:
        """Vᵀg of rows."""
        products = grams(layers(rows, self.shapes), self._held)
        return products @ self._combined

    def shrunk(self, coefficients: Float[Tensor, "q r"], damping: float) -> Float[Tensor, "q r"]:
        """w/(w + μ) times the coefficients of queries."""
        return coefficients * (self.values / (self.values + self.shift(damping))).to(coefficients.dtype)

    def shift(self, damping: float) -> float:
        """μ = λ + δ.

        Raises
        ------
        InputError
            If it is zero.
        """
        shift = self.penalty + damping
        if shift <= 0:
            raise InputError(f"damping: the curvature of the index is singular; give damping > 0 (got {damping:g})")
        return shift

    def tensors(self) -> dict[str, Tensor]:
        """What a store keeps beside the rows."""
        return {"values": self.values, "combine": self.combine, "spectrum": self.spectrum.values}


def curvature_rows(fitted: Fitted, rows: Rows, most: int) -> tuple[Float[Tensor, "m k"], Float[Tensor, " m"]]:
    """Rows of a curvature as factors, the first ``most`` of them, and a weight each."""
    parts = []
    with flushed():
        for _, gradients in rows.blocks(rows.objective.engine.pass_rows):
            parts.append(fitted.of(gradients).cpu())
    found = torch.cat(parts)[:most]
    if not torch.isfinite(found).all():
        raise InputError(f"gradients: rows of the {rows.name} are NaN or infinite; look for them in the model")
    return found, torch.ones(len(found), dtype=found.dtype)


def decomposed(
    rows: Float[Tensor, "m k"], weights: Float[Tensor, " m"], shapes: Shapes, rank: int, penalty: Tensor
) -> FactorCurvature:
    """From the curvature's rows: eigenvectors of their Gram matrix, in float64."""
    held = layers(rows, shapes)
    matrix = grams(held, held).double() * weights.double()[:, None] * weights.double()
    values, vectors = torch.linalg.eigh(matrix)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    kept = min(rank, int((values > NEGLIGIBLE * values.max()).sum()))
    nothing = values.new_zeros(2, 0)
    spectrum = Partial.of(values, nothing, nothing)
    combine = vectors[:, :kept] / values[:kept].sqrt()
    return FactorCurvature(
        rows, weights, values[:kept], combine.to(rows.dtype), float(penalty.mean()), spectrum, shapes
    )


def restored(
    kept: Mapping[str, Tensor],
    rows: Float[Tensor, "m k"],
    weights: Float[Tensor, " m"],
    shapes: Shapes,
    penalty: Tensor,
    inside: Tensor,
    outside: Tensor,
) -> FactorCurvature:
    """From what a store kept."""
    spectrum = Partial.of(kept["spectrum"], inside, outside)
    values, combine = kept["values"].double(), kept["combine"]
    return FactorCurvature(rows, weights, values, combine, float(penalty.mean()), spectrum, shapes)
