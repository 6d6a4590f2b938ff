"""The two sides of a layer's gradient G, each multiplied by a matrix or cut to some of its entries: LᵀGR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.baselines.sketch import seeded
from upweight.curvature.kronecker import single
from upweight.gradients import Block, Shape
from upweight.gradients.terms import Direct, Lookup, Outer
from upweight.gradients.workspace import pieces


@dataclass(frozen=True, eq=False)
class Side:
    """What a factor of d entries is multiplied by, ``[d, size]``.

    Attributes
    ----------
    matrix
        Itself, or None.
    chosen
        The entries that are kept where there is no matrix; None: all.
    """

    matrix: Tensor | None = None
    chosen: Int[Tensor, " size"] | None = None

    def of(self, factor: Float[Tensor, "*n d"]) -> Float[Tensor, "*n size"]:
        """The factor times the matrix."""
        if self.matrix is not None:
            return factor @ self.matrix
        return factor if self.chosen is None else factor[..., self.chosen]

    def rows(self, index: Int[Tensor, "b t"], count: int, like: Tensor) -> Float[Tensor, "b t size"]:
        """The matrix's rows of these numbers: products with unit vectors."""
        if self.matrix is not None:
            return self.matrix[index]
        chosen = torch.arange(count, device=index.device) if self.chosen is None else self.chosen
        return (index[:, :, None] == chosen).to(like.dtype)

    def size(self, entries: int) -> int:
        """Entries that come of so many."""
        if self.matrix is not None:
            return self.matrix.shape[1]
        return entries if self.chosen is None else len(self.chosen)


WHOLE = Side()


@dataclass(frozen=True, eq=False)
class Sides:
    """Both sides of a block.

    Attributes
    ----------
    flat
        Whether the block is seen as one row ``[1, r·c]``, as `upweight.curvature.eigenbasis.Basis` may.
    """

    shape: Shape
    left: Side = WHOLE
    right: Side = WHOLE
    flat: bool = False

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows and columns of what comes out."""
        rows, columns = self.shape.rows, self.shape.columns
        if self.flat:
            rows, columns = 1, rows * columns
        return self.left.size(rows), self.right.size(columns)

    def of(self, block: Block) -> Outer | Direct:
        """LᵀGR of some examples, as factors where their gradients are."""
        term = single(block)
        if self.flat:
            return Direct(self.right.of(term.materialize().flatten(1)[:, None]))
        if isinstance(term, Outer):
            return Outer(self.left.of(term.left), self.right.of(term.right))
        if isinstance(term, Lookup):
            if self.left.matrix is None and self.left.chosen is None:
                return Direct(self.right.of(term.materialize()))
            return Outer(self.left.rows(term.index, term.rows, term.right), self.right.of(term.right))
        return Direct(self.right.of(self.left.of(term.values.mT).mT))

    def parts(self, block: Block, examples: int) -> Iterator[Outer | Direct]:
        """As `of`, a few examples at a time, so that no temporary is large."""
        term = single(block)
        positions = 1 if isinstance(term, Direct) else term.right.shape[1]
        left, right = self.sizes
        device = term.values.device if isinstance(term, Direct) else term.right.device
        for piece in pieces(examples, max(left * right, positions * (left + right)), device):
            yield self.of(block.take(piece))


def random_side(entries: int, size: int, seed: tuple[int, ...], like: Tensor) -> Side:
    """Normal entries of variance 1/size, made from a seed; nothing where ``size`` is no less than there is."""
    if size >= entries:
        return WHOLE
    drawn = torch.from_numpy(seeded(*seed).standard_normal((entries, size)))
    return Side(drawn.mul_(size**-0.5).to(like))


def kept_sides(sides: Sequence[Sides]) -> dict[str, Tensor]:
    """What a store has to keep of them: matrices, and which entries were chosen, by side and number."""
    found = {}
    for number, each in enumerate(sides):
        found[f"flat.{number}"] = torch.tensor([int(each.flat)])
        for name, side in (("left", each.left), ("right", each.right)):
            if side.matrix is not None:
                found[f"{name}.{number}"] = side.matrix
            elif side.chosen is not None:
                found[f"{name}_chosen.{number}"] = side.chosen
    return found
