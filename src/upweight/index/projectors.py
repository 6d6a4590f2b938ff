"""Projectors: gradients of a batch as rows of an index, made from the settings of `upweight.index.projections`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.baselines.sketch import Sketch
from upweight.gradients import Gradients
from upweight.gradients.blocks import conformed
from upweight.gradients.terms import Direct, Outer
from upweight.index.sides import Sides, kept_sides


@runtime_checkable
class Projector(Protocol):
    """Makes rows of gradients."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of each part of a row: a layer, or a factor of it."""
        ...

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(c, d₁, d₂) of every layer, where rows hold factors; else nothing."""
        ...

    def of(self, gradients: Gradients) -> Float[Tensor, "b k"]:
        """The rows of a batch."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What a store has to keep of it."""
        ...


@dataclass(frozen=True, eq=False)
class Entries:
    """Some entries of every layer's LᵀGR.

    Attributes
    ----------
    places
        Row and column of each entry that is kept, by layer.
    """

    sides: tuple[Sides, ...]
    places: tuple[tuple[Int[Tensor, " k"], Int[Tensor, " k"]], ...]
    shapes: tuple[tuple[int, int, int], ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """Entries of each layer."""
        return tuple(len(rows) for rows, _ in self.places)

    def of(self, gradients: Gradients) -> Float[Tensor, "b k"]:
        """The entries, layer after layer; with one position a product of two numbers each."""
        found = conformed(gradients, [each.shape for each in self.sides])
        parts = []
        for sides, (rows, columns), block in zip(self.sides, self.places, found.blocks, strict=True):
            if not len(rows):
                continue
            flat = rows * sides.sizes[1] + columns
            pieces = []
            for term in sides.parts(block, found.examples):
                if isinstance(term, Outer) and term.left.shape[1] == 1:
                    pieces.append(term.left[:, 0, rows].mul_(term.right[:, 0, columns]))
                else:
                    pieces.append(term.materialize().flatten(1)[:, flat])
            parts.append(torch.cat(pieces))
        return torch.cat(parts, dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """Matrices and places."""
        found = kept_sides(self.sides)
        for number, (rows, columns) in enumerate(self.places):
            found |= {f"rows.{number}": rows, f"columns.{number}": columns}
        return found


@dataclass(frozen=True, eq=False)
class Whole:
    """All of every layer's LᵀGR."""

    sides: tuple[Sides, ...]
    stored: bool
    shapes: tuple[tuple[int, int, int], ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """Entries of each layer."""
        return tuple(rows * columns for rows, columns in (each.sizes for each in self.sides))

    def of(self, gradients: Gradients) -> Float[Tensor, "b k"]:
        """The matrices, layer after layer."""
        found, parts = conformed(gradients, [each.shape for each in self.sides]), []
        for sides, block in zip(self.sides, found.blocks, strict=True):
            pieces = [term.materialize().flatten(1) for term in sides.parts(block, found.examples)]
            parts.append(torch.cat(pieces))
        return torch.cat(parts, dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """Matrices that no seed gives again."""
        return kept_sides(self.sides) if self.stored else {}


@dataclass(frozen=True, eq=False)
class Sketched:
    """A sketch of the whole gradient; None: the gradient itself."""

    sketch: Sketch | None
    width: int
    shapes: tuple[tuple[int, int, int], ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """One part."""
        return (self.width,)

    def of(self, gradients: Gradients) -> Float[Tensor, "b k"]:
        """Pᵀ∇f."""
        return gradients.materialize() if self.sketch is None else self.sketch.of(gradients)

    def tensors(self) -> dict[str, Tensor]:
        """Nothing: all is made from the seed."""
        return {}


@dataclass(frozen=True, eq=False)
class Factors:
    """L ``[c, d₁]`` and R ``[c, d₂]`` of every layer, Σ L ⊗ R the best approximation of rank c (Eckart & Young)."""

    sides: tuple[Sides, ...]
    rank: int
    stored: bool

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(c, d₁, d₂); no rank is larger than a side."""
        return tuple((min(self.rank, *each.sizes), *each.sizes) for each in self.sides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of each factor."""
        return tuple(count * size for count, *sizes in self.shapes for size in sizes)

    def of(self, gradients: Gradients) -> Float[Tensor, "b k"]:
        """Both factors of a layer, layer after layer."""
        found, parts = conformed(gradients, [each.shape for each in self.sides]), []
        for sides, (rank, _, _), block in zip(self.sides, self.shapes, found.blocks, strict=True):
            pairs = [_cut(term, rank) for term in sides.parts(block, found.examples)]
            parts += [torch.cat([pair[side] for pair in pairs]).flatten(1) for side in (0, 1)]
        return torch.cat(parts, dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """Matrices that no seed gives again."""
        return kept_sides(self.sides) if self.stored else {}


def _cut(term: Outer | Direct, rank: int) -> tuple[Float[Tensor, "b c r"], Float[Tensor, "b c d"]]:
    """Factors of rank c: those that there are, where they are no more; else by a singular value decomposition."""
    if isinstance(term, Outer) and term.left.shape[1] <= rank:
        missing = rank - term.left.shape[1]
        pad = torch.nn.functional.pad
        return pad(term.left, (0, 0, 0, missing)), pad(term.right, (0, 0, 0, missing))
    matrices = term.materialize()
    finite = torch.isfinite(matrices).all(2).all(1)[:, None, None]
    left, values, right = torch.linalg.svd(torch.where(finite, matrices, 0), full_matrices=False)
    roots = torch.where(finite, values[:, :rank, None].sqrt(), torch.nan)  # whose they are is said where all are seen
    return left.mT[:, :rank] * roots, right[:, :rank] * roots
