"""Matrices that are diagonal, block by block, in a basis that is a Kronecker product: Q = left ⊗ right.

K-FAC, EK-FAC and the diagonal are all of this form; they differ in Q and in the eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature.kronecker import single
from upweight.curvature.operators import OfObjective, refuse_other_rows
from upweight.gradients import Block, Gradients, Shape
from upweight.gradients.terms import Direct, Lookup, Outer, Term
from upweight.gradients.workspace import pieces
from upweight.objective import Objective


@dataclass(frozen=True, eq=False)
class Basis:
    """Orthogonal matrices, eigenvectors in columns, for the two sides of a block's matrix; None: the identity.

    Attributes
    ----------
    flat
        Whether the block is seen as one row, ``[1, r·c]``.
    """

    shape: Shape
    left: Tensor | None = None
    right: Tensor | None = None
    flat: bool = False

    def into(self, matrices: Float[Tensor, "k r c"]) -> Float[Tensor, "k r2 c2"]:
        """Matrices of the block in this basis, LᵀMR."""
        if self.flat:
            matrices = matrices.reshape(len(matrices), 1, -1)
        if self.left is not None:
            matrices = self.left.T @ matrices
        return matrices if self.right is None else matrices @ self.right

    def out_of(self, matrices: Float[Tensor, "k r2 c2"]) -> Float[Tensor, "k r c"]:
        """The inverse of `into`."""
        if self.left is not None:
            matrices = self.left @ matrices
        if self.right is not None:
            matrices = matrices @ self.right.T
        return matrices.reshape(-1, self.shape.rows, self.shape.columns)

    def term(self, block: Block) -> Term:
        """The block's gradients in this basis.

        A side is rotated before the sum over t positions or after it, whichever costs less: t d² multiplications
        for a side of d entries, or d² for each entry of the other side.
        """
        term = single(block)
        if isinstance(term, Lookup) and self.left is None and not self.flat:
            return Lookup(term.index, term.right if self.right is None else term.right @ self.right, term.rows)
        if not isinstance(term, Outer) or self.flat:
            return Direct(self.into(term.materialize()))
        left, right = self._before(term)
        sides = Outer(_times(term.left, left), _times(term.right, right))
        if left is self.left and right is self.right:
            return sides
        summed = sides.materialize()
        if left is not self.left and self.left is not None:
            summed = self.left.T @ summed
        return Direct(summed if right is self.right else _times(summed, self.right))

    def squares(self, block: Block) -> Float[Tensor, "r2 c2"]:
        """Σ over examples of the squared entries of their gradients in this basis, few of them formed at a time."""
        term = single(block)
        first = term.values if isinstance(term, Direct) else term.right
        if isinstance(term, Outer) and not self.flat:
            left, right = self._before(term)
            if left is self.left and right is self.right:
                return self.term(block).squares()
        total: Tensor | None = None
        for part in pieces(len(first), self.shape.rows * self.shape.columns, first.device):
            found = self.term(block.take(part)).squares()
            total = found if total is None else total.add_(found)
        assert total is not None
        return total

    def _before(self, term: Outer) -> tuple[Tensor | None, Tensor | None]:
        """The rotations that cost less before the sum over positions."""
        t, (rows, columns) = term.left.shape[1], term.shape
        return (self.left if t == 1 or t < columns else None), (self.right if t == 1 or t < rows else None)

    def cost(self, block: Block) -> int:
        """Multiplications per example of `term`, without the sum over positions."""
        rows, columns = (
            (1, self.shape.rows * self.shape.columns) if self.flat else (self.shape.rows, self.shape.columns)
        )
        term = single(block)
        t = term.left.shape[1] if isinstance(term, Outer) and not self.flat else None
        left = 0 if self.left is None else rows**2 * (columns if t is None else min(t, columns))
        right = 0 if self.right is None else columns**2 * (rows if t is None else min(t, rows))
        return left + right


def _times(values: Float[Tensor, "b m d"], matrix: Float[Tensor, "d d"] | None) -> Float[Tensor, "b m d"]:
    """values @ matrix as one product: of transposed values torch makes one per example, each reading all of it."""
    return values if matrix is None else (values.reshape(-1, len(matrix)) @ matrix).view(values.shape)


@dataclass(frozen=True, eq=False)
class EigenOperator(OfObjective):
    """Q diag(Λ) Qᵀ + diag(λ) of every block, zero between blocks.

    Attributes
    ----------
    bases, values
        Q and Λ of every block; Λ in the block's own form.
    penalized
        Whether the penalty is part of the matrix.
    penalties
        λ of every parameter (default: the objective's).
    """

    objective: Objective
    bases: tuple[Basis, ...]
    values: tuple[Tensor, ...]
    name: str
    penalized: bool = True
    penalties: Float[Tensor, " p"] | None = None

    @property
    def l2(self) -> Float[Tensor, " p"]:
        """λ of every parameter; 0 where the penalty is left out."""
        found = self.objective.l2 if self.penalties is None else self.penalties
        return found if self.penalized else torch.zeros_like(found)

    @cached_property
    def frame(self) -> Gradients:
        """The blocks without gradients: how they lie in θ."""
        return Gradients(self.objective.layout, tuple(Block(basis.shape, ()) for basis in self.bases), 0)

    @cached_property
    def penalty(self) -> tuple[Tensor, ...]:
        """The diagonal of λ in each block's basis, which is all of it where weight and bias have the same λ.

        Of a block with one λ it is that number, in all bases.
        """
        found = []
        for basis, (matrix,) in zip(self.bases, self.frame.matrices(self.l2[None]), strict=True):
            low, high = matrix.aminmax()
            if low == high:
                found.append(low)
                continue
            left, right = (None if q is None else q**2 for q in (basis.left, basis.right))
            squared = Basis(basis.shape, left, right, basis.flat)
            found.append(squared.into(matrix[None])[0])
        return tuple(found)

    def scaled(self, vectors: Float[Tensor, "k p"], factors: Iterable[Tensor]) -> Float[Tensor, "k p"]:
        """Q diag(factors) Qᵀ times k vectors, given as rows."""
        pairs = zip(self.bases, self.frame.matrices(vectors), factors, strict=True)
        return self.frame.vectors([basis.out_of(basis.into(matrix) * factor) for basis, matrix, factor in pairs])

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows; no pass over the data."""
        refuse_other_rows(vectors, self.size)
        return self.scaled(vectors, self.values) + self.l2 * vectors

    def trace(self) -> float:
        """Sum of the eigenvalues."""
        own = sum(float(value.sum(dtype=torch.float64)) for value in self.values)
        return own + float(self.l2.sum(dtype=torch.float64))

    def dense(self) -> Float[Tensor, "p p"]:
        """The matrix itself; for small p."""
        return self.apply(torch.eye(self.size, dtype=self.dtype, device=self.device))
