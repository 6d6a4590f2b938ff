"""Per-example gradients of a batch as blocks of factors, one block a parameter (a weight with its bias).

A block's matrix is ``[r, c]``; a bias that every use shares with its weight is one more column, whose right factor
is 1. `Gradients` holds the blocks of a batch and offers what curvature and influence need of them, block by block or
summed: inner products, Gram matrices, norms, weighted sums, and, where somebody really wants them, the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.gradients.terms import Direct, Lookup, Outer, Term, compact, gram, pair_work
from upweight.gradients.workspace import Workspace
from upweight.parameters import Layout

Cotangents = Tensor | Callable[[Tensor], Tensor]
"""u of each example in its outputs ``[batch, ...]``, or a function of the outputs that gives them."""


Seen = Callable[["Block"], None]
"""What is shown the blocks of a batch, one after the other, each in the form in which it was used."""


def unseen(block: Block) -> None:
    """Nobody looks."""


@runtime_checkable
class Scorer(Protocol):
    """Products of some gradients with a batch's others."""

    def __call__(self, train: Gradients, seen: Seen = unseen) -> Float[Tensor, "q n"]:
        """For every one of them and every example of the batch."""
        ...


@dataclass(frozen=True)
class Shape:
    """How a block's matrix lies in θ.

    Attributes
    ----------
    weight, bias
        Names of the parameters; the bias, if it is part of the block, is the matrix's last column.
    rows, columns
        Size of the matrix, the bias's column included.
    transposed
        Whether the parameter is stored as ``[c, r]``.
    """

    weight: str
    bias: str | None
    rows: int
    columns: int
    transposed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the block."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def matrices(self, named: Mapping[str, Float[Tensor, "*k ..."]], k: int) -> Float[Tensor, "k r c"]:
        """The block's part of k vectors, given as named tensors with a leading dimension k."""
        width = self.columns - (self.bias is not None)
        weight = named[self.weight]
        if self.transposed:
            matrix = weight.reshape(k, width, self.rows).mT
        else:
            matrix = weight.reshape(k, self.rows, width)
        if self.bias is None:
            return matrix
        return torch.cat([matrix, named[self.bias].reshape(k, self.rows, 1)], dim=2)

    def named(self, matrices: Float[Tensor, "k r c"]) -> dict[str, Float[Tensor, "k n"]]:
        """The inverse of `matrices`: flattened parameters by name."""
        weight = matrices if self.bias is None else matrices[:, :, :-1]
        found = {self.weight: (weight.mT if self.transposed else weight).flatten(1)}
        if self.bias is not None:
            found[self.bias] = matrices[:, :, -1]
        return found


@dataclass(frozen=True)
class Block:
    """Gradients of one parameter's per-example gradients; several uses are several terms, whose sum counts."""

    shape: Shape
    terms: tuple[Term, ...]

    def inner(self, matrices: Float[Tensor, "k r c"]) -> Float[Tensor, "k b"]:
        """Inner products of k matrices with every example's gradient."""
        return _sum(term.inner(matrices) for term in self.terms)

    def combine(self, weights: Float[Tensor, "k b"]) -> Float[Tensor, "k r c"]:
        """k weighted sums of the gradients."""
        return _sum(term.combine(weights) for term in self.terms)

    def gram(self, other: Block) -> Float[Tensor, "m n"]:
        """Inner products of every gradient here with every one of another batch."""
        return _sum(gram(first, second) for first in self.terms for second in other.terms)

    def norms(self) -> Float[Tensor, " b"]:
        """‖gradient‖² of every example, in this block."""
        if len(self.terms) == 1:
            return self.terms[0].norms()
        return Direct(self.materialize()).norms()

    def materialize(self) -> Float[Tensor, "b r c"]:
        """The gradients themselves."""
        return _sum(term.materialize() for term in self.terms)

    def squares(self) -> Float[Tensor, "r c"]:
        """Σ_b of squared entries."""
        if len(self.terms) == 1:
            return self.terms[0].squares()
        return Direct(self.materialize()).squares()

    def scaled(self, columns: Float[Tensor, " c"]) -> Block:
        """Every gradient's columns multiplied: a metric that differs between weight and bias, or one factor for all."""
        scaled: list[Term] = []
        for term in self.terms:
            if isinstance(term, Direct):
                scaled.append(Direct(term.values * columns))
            else:
                scaled.append(replace(term, right=term.right * columns))
        return replace(self, terms=tuple(scaled))

    def weighted(self, rows: Float[Tensor, " b"]) -> Block:
        """Every example's gradient multiplied by its own number."""
        scaled: list[Term] = []
        each = rows.reshape(-1, 1, 1)
        for term in self.terms:
            if isinstance(term, Direct):
                scaled.append(Direct(term.values * each))
            elif isinstance(term, Outer):
                scaled.append(Outer(term.left * each, term.right))
            else:
                scaled.append(replace(term, right=term.right * each))
        return replace(self, terms=tuple(scaled))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the gradients."""
        term = self.terms[0]
        return term.values.dtype if isinstance(term, Direct) else term.right.dtype

    def formed(self, workspace: Workspace | None = None) -> Block:
        """The form in which several products with it cost least: sums of many positions are summed once.

        ``workspace``: memory for the sums, which its next user overwrites.
        """
        term = self.terms[0]
        if len(self.terms) == 1 and isinstance(term, Outer) and term.left.shape[1] > 1:
            return replace(self, terms=(term.formed(workspace or Workspace()),))
        return self

    def compact(self) -> Block:
        """Each term, or their sum, in the form that holds fewest numbers."""
        terms = tuple(compact(term) for term in self.terms)
        if len(terms) > 1 and any(isinstance(term, Direct) for term in terms):
            return replace(self, terms=(Direct(_sum(term.materialize() for term in terms)),))
        return replace(self, terms=terms)

    def take(self, rows: Tensor | slice) -> Block:
        """Some of the examples."""
        return replace(self, terms=tuple(term.take(rows) for term in self.terms))


@dataclass(frozen=True)
class Gradients:
    """Per-example gradients of a batch, block by block: the one form in which they go from room to room."""

    layout: Layout
    blocks: tuple[Block, ...]
    examples: int

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """How the blocks are cut."""
        return tuple(block.shape for block in self.blocks)

    @property
    def numbers(self) -> int:
        """Numbers held per example."""
        return sum(term.numbers for block in self.blocks for term in block.terms)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the gradients."""
        return self.blocks[0].dtype

    @property
    def pair_work(self) -> int:
        """Multiplications of the inner product of two examples' gradients."""
        return sum(pair_work(term) for block in self.blocks for term in block.terms)

    def matrices(self, vectors: Float[Tensor, "k p"]) -> list[Float[Tensor, "k _ _"]]:
        """k vectors as a matrix for every block."""
        named = self.layout.unflatten(vectors)
        return [block.shape.matrices(named, len(vectors)) for block in self.blocks]

    def vectors(self, matrices: Sequence[Float[Tensor, "k _ _"]]) -> Float[Tensor, "k p"]:
        """Matrices of every block as k vectors."""
        named: dict[str, Tensor] = {}
        for block, matrix in zip(self.blocks, matrices, strict=True):
            named.update(block.shape.named(matrix))
        return torch.cat([named[name] for name in self.layout.names], dim=1)

    def inner(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k b"]:
        """Inner products of k vectors with every example's gradient."""
        pairs = zip(self.blocks, self.matrices(vectors), strict=True)
        return _sum(block.inner(matrix) for block, matrix in pairs)

    def combine(self, weights: Float[Tensor, "k b"]) -> Float[Tensor, "k p"]:
        """k weighted sums of the gradients."""
        return self.vectors([block.combine(weights) for block in self.blocks])

    def gram(self, other: Gradients) -> Float[Tensor, "m n"]:
        """Inner products of every gradient here with every one of another batch."""
        total: Tensor | None = None
        for mine, its in zip(self.blocks, other.blocks, strict=True):
            part = mine.gram(its)
            total = part if total is None else total.add_(part)
        assert total is not None
        return total

    def norms(self) -> Float[Tensor, " b"]:
        """‖gradient‖² of every example."""
        return _sum(block.norms() for block in self.blocks)

    def materialize(self) -> Float[Tensor, "b p"]:
        """The gradients themselves."""
        return self.vectors([block.materialize() for block in self.blocks])

    def scaled(self, metric: Float[Tensor, " p"]) -> Gradients:
        """Gradients with every entry multiplied; the metric must be one number per parameter tensor.

        So (AᵀA + D)⁻¹ with a diagonal D, constant on each parameter, becomes (ÃᵀÃ + I)⁻¹ in à = A D^{-1/2}.
        """
        blocks = []
        for block, matrix in zip(self.blocks, self.matrices(metric[None]), strict=True):
            blocks.append(block.scaled(matrix[0, 0]))
        return replace(self, blocks=tuple(blocks))

    def weighted(self, rows: Float[Tensor, " b"]) -> Gradients:
        """Every example's gradient multiplied by its own number."""
        return replace(self, blocks=tuple(block.weighted(rows) for block in self.blocks))

    def compact(self) -> Gradients:
        """The form that holds fewest numbers."""
        return replace(self, blocks=tuple(block.compact() for block in self.blocks))

    def shown(self, seen: Seen) -> Gradients:
        """Itself, each block shown; nothing is formed where nobody looks."""
        if seen is not unseen:
            for block in self.blocks:
                seen(block.formed())
        return self

    def take(self, rows: Tensor | slice) -> Gradients:
        """Some of the examples."""
        blocks = tuple(block.take(rows) for block in self.blocks)
        count = len(torch.arange(self.examples)[rows.cpu() if isinstance(rows, Tensor) else rows])
        return replace(self, blocks=blocks, examples=count)


def conformed(gradients: Gradients, shapes: Sequence[Shape]) -> Gradients:
    """The same gradients cut into these blocks, where another function's plan has cut them otherwise."""
    own = {block.shape: block for block in gradients.blocks}
    if gradients.shapes == tuple(shapes):
        return gradients
    named: dict[str, Tensor] = {}
    for block in gradients.blocks:
        if block.shape not in shapes:
            named.update(block.shape.named(block.materialize()))
    count = gradients.examples
    blocks = [own.get(shape) or Block(shape, (Direct(shape.matrices(named, count)),)) for shape in shapes]
    return replace(gradients, blocks=tuple(blocks))


def concatenated(parts: Sequence[Gradients]) -> Gradients:
    """Several batches as one; their terms must have the same form (lookups and positions of equal length)."""
    first = parts[0]
    if len(parts) == 1:
        return first
    blocks = []
    for number, block in enumerate(first.blocks):
        columns = zip(*(part.blocks[number].terms for part in parts), strict=True)
        blocks.append(replace(block, terms=tuple(_joined(column) for column in columns)))
    return replace(first, blocks=tuple(blocks), examples=sum(part.examples for part in parts))


def _joined(terms: Sequence[Term]) -> Term:
    forms = {type(term) for term in terms}
    if forms == {Direct} or len(forms) > 1:
        return Direct(torch.cat([term.materialize() for term in terms]))
    longest = max(_positions(term) for term in terms)

    def joined(name: str) -> Tensor:
        return torch.cat([_padded(getattr(term, name), longest) for term in terms])

    first = terms[0]
    if isinstance(first, Outer):
        return Outer(joined("left"), joined("right"))
    return Lookup(joined("index"), joined("right"), first.shape[0])


def _positions(term: Term) -> int:
    return 1 if isinstance(term, Direct) else term.right.shape[1]


def _padded(values: Tensor, length: int) -> Tensor:
    """Positions that aren't there are zeros, which add nothing."""
    missing = length - values.shape[1]
    return values if not missing else torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], 1)


def _sum(values: Iterable[Tensor]) -> Tensor:
    total: Tensor | None = None
    for value in values:
        total = value if total is None else total + value
    assert total is not None
    return total
