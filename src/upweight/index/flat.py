"""Rows that are vectors: the curvature is a matrix of k × k, its eigenvectors are kept, and any damping is at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import Rows
from upweight.errors import InputError
from upweight.gradients.denormals import flushed
from upweight.index.fitted import Fitted
from upweight.index.spectrum import Partial

LARGEST = 16384
"""Numbers of a row up to which a matrix of them is decomposed."""
COLUMNS = 1024
"""Columns of the matrix that are added to at a time."""


def add_squares(total: Float[Tensor, "k k"], rows: Float[Tensor, "b k"], weights: Float[Tensor, " b"] | None) -> None:
    """Add Σ w φ φᵀ to a sum in float64; products are in the rows' own precision, of a few thousand at a time."""
    weighted = rows if weights is None else rows * weights[:, None]
    for begin in range(0, rows.shape[1], COLUMNS):
        total[:, begin : begin + COLUMNS] += rows.T @ weighted[:, begin : begin + COLUMNS]


def curvature_sum(fitted: Fitted, rows: Rows) -> Float[Tensor, "k k"]:
    """Σ over the rows of a curvature, projected as gradients are: that of the mean over a part's examples.

    Raises
    ------
    InputError
        If a row isn't finite.
    """
    total = torch.zeros(fitted.width, fitted.width, dtype=torch.float64)
    with flushed():
        for _, found in rows.blocks(rows.objective.engine.pass_rows):
            add_squares(total, fitted.of(found).cpu(), None)
    if not torch.isfinite(total).all():
        raise InputError(f"gradients: rows of the {rows.name} are NaN or infinite; look for them in the model")
    return total


def refuse_wide(width: int) -> None:
    """Refuse rows whose matrix would be too large, before work.

    Raises
    ------
    InputError
        Says what can be used.
    """
    if width > LARGEST:
        raise InputError(
            f"projection: rows of {width:,} numbers would need a matrix of {8 * width**2 / 2**30:.0f} GiB; at most "
            f"{LARGEST:,} are taken. Give a smaller dimension or size, or index.LowRank()"
        )


@dataclass(frozen=True, eq=False)
class FlatCurvature:
    """Eigenvalues and eigenvectors of C + diag(λ) − λ₀, λ₀ the smallest λ, in the rows' own units.

    Attributes
    ----------
    values, vectors
        ``[r]`` and ``[k, r]``; where r < k all other eigenvalues are zero.
    lowest
        λ₀.
    scale
        What the numbers of a row were divided by.
    spectrum
        For the damping.
    """

    values: Float[Tensor, " r"]
    vectors: Float[Tensor, "k r"]
    lowest: float
    scale: Float[Tensor, " k"]
    spectrum: Partial

    def solved(self, rows: Float[Tensor, "q k"], damping: float) -> Float[Tensor, "q k"]:
        """(C + diag(λ) + δI)⁻¹ of rows, between rows as they are kept.

        Raises
        ------
        InputError
            If the matrix is singular.
        """
        scale, shift = self.scale.double(), self.lowest + damping
        given = rows.double() * scale
        least = float(self.values.min()) if self.values.shape[0] == len(self.vectors) else 0.0
        if least + shift <= torch.finfo(torch.float64).eps * float(self.values.max()):
            raise InputError(f"damping: the curvature of the index is singular; give damping > 0 (got {damping:g})")
        vectors = self.vectors.double()
        inside = given @ vectors
        found = (inside / (self.values + shift)) @ vectors.T
        if len(self.values) < len(vectors):
            found += (given - inside @ vectors.T) / shift
        return found * scale

    def tensors(self) -> dict[str, Tensor]:
        """What a store keeps."""
        return {"values": self.values, "vectors": self.vectors}


def decomposed(
    total: Float[Tensor, "k k"], fitted_scale: Tensor, penalty: Tensor, inside: Tensor, outside: Tensor
) -> FlatCurvature:
    """From the mean Σ φφᵀ of rows as they are kept."""
    scale = fitted_scale.double()
    matrix = scale[:, None] * total * scale
    lowest = float(penalty.min())
    matrix.diagonal().add_(penalty.double() - lowest)
    values, vectors = torch.linalg.eigh(matrix)
    return FlatCurvature(values.clamp_min(0), vectors, lowest, fitted_scale, Partial.of(values, inside, outside))


def by_examples(
    rows: Float[Tensor, "n k"], fitted_scale: Tensor, penalty: Tensor, inside: Tensor, outside: Tensor
) -> FlatCurvature:
    """From fewer rows than a row has numbers, √(w/n)·φ each: their Gram matrix has the same eigenvalues (Woodbury)."""
    own = rows.double() * fitted_scale.double()
    values, vectors = torch.linalg.eigh(own @ own.T)
    kept = values > torch.finfo(torch.float64).eps * len(values) * values.max()
    values, vectors = values[kept], vectors[:, kept]
    spectrum = Partial.of(values, inside, outside)
    return FlatCurvature(values, own.T @ vectors / values.sqrt(), float(penalty.min()), fitted_scale, spectrum)


def restored(
    kept: Mapping[str, Tensor], scale: Tensor, penalty: Tensor, inside: Tensor, outside: Tensor
) -> FlatCurvature:
    """From what a store kept."""
    values = kept["values"].double()
    return FlatCurvature(values, kept["vectors"], float(penalty.min()), scale, Partial.of(values, inside, outside))


def mean_of(sums: Iterable[tuple[int, Float[Tensor, "k k"]]]) -> Float[Tensor, "k k"]:
    """The mean over all parts of what is the mean over each, by their numbers of examples."""
    total, count = None, 0
    for n, part in sums:
        total = part.double() * n if total is None else total.add_(part.double(), alpha=n)
        count += n
    assert total is not None
    return total / count
