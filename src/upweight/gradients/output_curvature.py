"""The Hessian of a loss in each example's outputs, Λ, by what it does to vectors.

That of a cross-entropy is Q(diag p − ppᵀ), whose product with u is Q p∘(u − pᵀu): a number a class in place of a matrix
of classes × classes, which thousands of classes would make too large to hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Batch
from upweight.losses import CausalLM, CrossEntropy

MANY = 32
"""Outputs from which a softmax's curvature is never made as a matrix; below, a small matrix product is quicker."""
TILES = 4
"""Bands of rows in which a symmetric product is made, each from its diagonal on: 5/8 of the work of the whole."""


@dataclass(frozen=True, eq=False)
class Whole:
    """Λ as matrices."""

    matrices: Float[Tensor, "b c c"]

    def apply(self, u: Float[Tensor, "b k c"]) -> Float[Tensor, "b k c"]:
        """Λ_i u for k vectors of each example."""
        # A batch of 1 × 1 products costs more than the numbers in them.
        return u * self.matrices if u.shape[-1] == 1 else u @ self.matrices

    def whole(self) -> Float[Tensor, "b c c"]:
        """The matrices."""
        return self.matrices

    def weighted(self, weights: Float[Tensor, " b"] | float) -> Whole:
        """w_i Λ_i."""
        scale = weights[:, None, None] if isinstance(weights, Tensor) else weights
        return Whole(scale * self.matrices)

    def take(self, rows: Tensor | slice) -> Whole:
        """Of some of the examples."""
        return Whole(self.matrices[rows])

    def split(self, size: int) -> Iterator[Whole]:
        """In blocks of examples."""
        return (Whole(part) for part in self.matrices.split(size))


@dataclass(frozen=True, eq=False)
class Softmax:
    """Λ = Q(diag p − ppᵀ).

    Attributes
    ----------
    p
        The probabilities.
    mass
        Q, weights included.
    """

    p: Float[Tensor, "b c"]
    mass: Float[Tensor, " b"]

    def apply(self, u: Float[Tensor, "b k c"]) -> Float[Tensor, "b k c"]:
        """Λ_i u for k vectors of each example."""
        return softmax_product(self.p.unsqueeze(1), self.mass.unsqueeze(1), u)

    def whole(self) -> Float[Tensor, "b c c"]:
        """The matrices, where they can't be done without."""
        matrices = torch.diag_embed(self.p) - self.p.unsqueeze(-1) * self.p.unsqueeze(-2)
        return matrices * self.mass[:, None, None]

    def weighted(self, weights: Float[Tensor, " b"] | float) -> Softmax:
        """w_i Λ_i."""
        return Softmax(self.p, weights * self.mass)

    def take(self, rows: Tensor | slice) -> Softmax:
        """Of some of the examples."""
        return Softmax(self.p[rows], self.mass[rows])

    def split(self, size: int) -> Iterator[Softmax]:
        """In blocks of examples."""
        return map(Softmax, self.p.split(size), self.mass.split(size))


OutputCurvature = Whole | Softmax


def joined(parts: Sequence[OutputCurvature]) -> OutputCurvature:
    """Several batches as one."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Softmax) for part in parts):
        soft = [part for part in parts if isinstance(part, Softmax)]
        return Softmax(torch.cat([part.p for part in soft]), torch.cat([part.mass for part in soft]))
    return Whole(torch.cat([part.whole() for part in parts]))


def softmax_product(p: Tensor, mass: Tensor, u: Tensor) -> Tensor:
    """Q(diag p − ppᵀ)u at every place; the classes are the last dimension, and the others broadcast."""
    centred = u - (p.unsqueeze(-2) @ u.unsqueeze(-1)).squeeze(-1)
    return centred.mul_(p).mul_(mass.unsqueeze(-1))


def is_softmax(function: Any) -> bool:
    """Whether it is a cross-entropy as this package has it, whose mass says all of its curvature."""
    if not isinstance(function, CrossEntropy):
        return False
    kind = type(function)
    known = kind.compare in (CrossEntropy.compare, CausalLM.compare)
    return known and kind.of_outputs is CrossEntropy.of_outputs


def softmax_of(function: Any, outputs: Float[Tensor, "b ..."], batch: Batch) -> tuple[Tensor, Tensor] | None:
    """p and Q at every place of a cross-entropy's outputs; None of another function."""
    if not is_softmax(function):
        return None
    at = outputs.detach()
    return at.softmax(-1), function.mass(at, function.targets(batch)).to(at.dtype).expand(at.shape[:-1])


def softmax_dense(
    factors: Iterable[tuple[Float[Tensor, "b d"], Softmax]], used: Int[Tensor, " u"], features: int
) -> Float[Tensor, "c d c d"]:
    """Σ Q_i (diag p_i − p_ip_iᵀ) ⊗ a_i a_iᵀ: a matrix product over all pairs of outputs, and the diagonal blocks.

    ``used`` are the features that are not zero in every example.
    """
    total = None
    width = len(used)
    for given, curvature in factors:
        a = given if width == features else given.index_select(1, used)
        count = curvature.p.shape[1]
        edges = torch.linspace(0, count * width, TILES + 1).long().tolist()
        if total is None:
            total = a.new_zeros(count * width, count * width)
        right = (curvature.p[:, :, None] * a[:, None, :]).flatten(1)
        left = curvature.mass[:, None] * right
        for start, stop in pairwise(edges):
            total[start:stop, start:].addmm_(left[:, start:stop].T, right[:, start:], alpha=-1)
        blocks = (curvature.mass[:, None] * curvature.p).T @ (a[:, :, None] * a[:, None, :]).flatten(1)
        # A view of the blocks on the diagonal, [width, width, count].
        total.view(count, width, count, width).diagonal(dim1=0, dim2=2).add_(
            blocks.reshape(count, width, width).permute(1, 2, 0)
        )
    assert total is not None
    mirrored(total, edges)
    found = total.reshape(count, width, count, width)
    if width == features:
        return found
    wide = found.new_zeros(count, features, count, features)
    wide[:, used[:, None], :, used] = found.permute(1, 3, 0, 2)
    return wide


def mirrored(matrix: Float[Tensor, "p p"], edges: list[int]) -> None:
    """Fill what lies below the bands of rows that a symmetric matrix was made in, in place."""
    for start, stop in pairwise(edges):
        square = matrix[start:stop, start:stop]
        square.copy_((square + square.T) / 2)
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
