"""A sparse projection of per-example gradients that is taken from their factors.

Every entry of a parameter has one random sign in each of a few parts of the k columns. Its place there is the sum,
counted around the part, of a place of its row and one of its column in the parameter's matrix, and its sign the product
of theirs: the tensor sketch (Pham & Pagh 2013, "Fast and scalable polynomial kernels via explicit feature maps"). A
gradient g ⊗ a then has as its sketch the circular convolution of the count sketches of g and of a (Charikar et al.
2002), by Fourier transforms in O(r + c + k log k) operations instead of O(rc), and is never formed.

Columns have other places and signs in each of a few groups of rows, which brings the variance near that of independent
signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from upweight.gradients import Block, Gradients
from upweight.gradients.terms import Lookup, Outer, Term
from upweight.parameters import Layout

PARTS = 4
"""Parts of the columns, at most: the largest number of equal ones is taken."""
GROUPS = 4
"""Groups of a parameter's rows: each costs two transforms, and takes its share off the variance."""
TRANSFORM_WORK = 8
"""Additions that take as long as a column's share in the transforms of two factors and their product."""
SPECTRUM_ELEMENTS = 2**20
"""Numbers in a factor's spectra at a time: what stays in a processor's cache."""
GRADIENT_ELEMENTS = 2**24
"""Numbers of a block's gradients that are formed at a time."""
FEWEST = 8
"""Examples, of which more numbers may be formed, as the bins of all entries are made for each of these."""


@dataclass(frozen=True)
class Places:
    """Where the entries of a parameter's matrix are counted, in parts of m columns.

    Attributes
    ----------
    rows, columns
        Places from 0 to m − 1; those of columns in every group of rows.
    row_signs, column_signs
        0 for plus, 1 for minus.
    group
        Of every row.
    length
        m.
    """

    rows: Int[Tensor, "parts r"]
    row_signs: Int[Tensor, "parts r"]
    columns: Int[Tensor, "parts groups c"]
    column_signs: Int[Tensor, "parts groups c"]
    group: Int[Tensor, " r"]
    length: int

    @classmethod
    def drawn(
        cls, shape: tuple[int, int], parts: int, length: int, seed: Sequence[int], device: torch.device
    ) -> Places:
        """Independent ones, by a seed."""
        generator = seeded(*seed)
        rows, columns = shape
        groups = max(min(GROUPS, rows), 1)
        group = np.arange(rows) * groups // max(rows, 1)

        def random(most: int, *size: int) -> Tensor:
            return torch.from_numpy(generator.integers(0, most, size)).to(device)

        return cls(
            random(length, parts, rows),
            random(2, parts, rows),
            random(length, parts, groups, columns),
            random(2, parts, groups, columns),
            torch.from_numpy(group).to(device),
            length,
        )

    def row_sketches(self, factor: Float[Tensor, "n r"]) -> Float[Tensor, "n parts groups m"]:
        """Count sketches of each group's part of a factor."""
        groups = self.columns.shape[1]
        bins = self.rows + self.length * (self.group + groups * self.row_signs)
        return _counted(factor, bins, groups * self.length).unflatten(2, (groups, self.length))

    def column_sketches(self, factor: Float[Tensor, "n c"]) -> Float[Tensor, "n parts groups m"]:
        """Count sketches of a factor by the places of each group."""
        return _counted(factor, self.columns + self.length * self.column_signs, self.length)

    def entries(self, rows: Int[Tensor, "*shape"] | None = None) -> Iterator[Int[Tensor, "*shape c"]]:
        """Bins of all entries of these rows of the matrix (default: of all), part by part, for `_unwound`.

        A bin is the sum of the row's place and the column's, and 2m more for each of their minus signs.
        """
        chosen: Tensor | slice = slice(None) if rows is None else rows
        group, step = self.group[chosen], 2 * self.length
        for places, signs, columns, others in zip(
            self.rows, self.row_signs, self.columns, self.column_signs, strict=True
        ):
            yield (columns + step * others)[group].add_((places + step * signs)[chosen][..., None])


@dataclass(frozen=True)
class Sketch:
    """P ``[p, k]`` with E[P Pᵀ] = I, by places and signs of the rows and columns of parameters.

    For gradients G and H the product GᵀPPᵀH has the mean ⟨G, H⟩ and, up to terms in 1/k², at most the variance

        (‖G‖²‖H‖² + ⟨G, H⟩² + Σ_m ‖GᵀH‖² + ‖GHᵀ‖² + tr((GᵀH)²) + tr((GHᵀ)²))/k,

    where m runs over the groups of rows of all parameters, as matrices; independent signs everywhere have the first two
    terms. For outer products of unit length whose factors, alike in all of `GROUPS` groups, have the cosines α and β,
    that is (1 + α²β² + (α² + β² + 2α²β²)/GROUPS)/k.

    Attributes
    ----------
    parts, length
        Parts of the columns, and columns of each: k together.
    places
        Of every parameter, as the matrix of its first dimension by all others.
    """

    parts: int
    length: int
    places: Mapping[str, Places]

    @classmethod
    def drawn(cls, layout: Layout, dimension: int, seed: Sequence[int], device: torch.device) -> Sketch:
        """To so many columns; every parameter by a seed of its own."""
        parts = max(count for count in range(1, PARTS + 1) if dimension % count == 0)
        length, places = dimension // parts, {}
        for number, (name, shape) in enumerate(zip(layout.names, layout.shapes, strict=True)):
            rows = shape[0] if shape else 1
            matrix = rows, shape.numel() // max(rows, 1)
            places[name] = Places.drawn(matrix, parts, length, (*seed, number), device)
        return cls(parts, length, places)

    @property
    def dimension(self) -> int:
        """The number of columns k."""
        return self.parts * self.length

    def of(self, gradients: Gradients) -> Float[Tensor, "b k"]:
        """Pᵀ∇f_i of every example, each term by its factors or as a matrix, whichever is less work."""
        rows = max(min(self._rows(term) for block in gradients.blocks for term in block.terms), 1)
        starts = range(0, gradients.examples, rows)
        return torch.cat([self._of_rows(gradients.take(slice(start, start + rows))) for start in starts])

    def _rows(self, term: Term) -> int:
        """Examples that are worked on together."""
        if self._by_factors(term):
            return SPECTRUM_ELEMENTS // (term.left.shape[1] * GROUPS * self.dimension)
        if isinstance(term, Lookup):
            return GRADIENT_ELEMENTS // max(term.right[0].numel(), 1)
        return max(GRADIENT_ELEMENTS // max(term.shape[0] * term.shape[1], 1), FEWEST)

    def _by_factors(self, term: Term) -> TypeGuard[Outer]:
        if not isinstance(term, Outer):
            return False
        positions, (rows, columns) = term.left.shape[1], term.shape
        work = self.parts * (rows + GROUPS * columns) + TRANSFORM_WORK * GROUPS * self.dimension
        return positions > 0 and positions * work < self.parts * rows * columns

    def _of_rows(self, gradients: Gradients) -> Float[Tensor, "b k"]:
        device = next(iter(self.places.values())).rows.device
        sums = torch.zeros(gradients.examples, self.parts, 6 * self.length, dtype=gradients.dtype, device=device)
        spectra = torch.fft.rfft(sums[:, :, : self.length])
        for block in gradients.blocks:
            split = self._split(block)
            for name, values in split.matrices.items():
                for part, bins in enumerate(self.places[name].entries()):
                    sums[:, part].scatter_add_(1, bins.flatten().expand(len(values), -1), values)
            for term in split.lookups:
                for part, bins in enumerate(self.places[block.shape.weight].entries(term.index)):
                    sums[:, part].scatter_add_(1, bins.flatten(1), term.right.flatten(1))
            for left, right in split.factors:
                spectra += self._spectra(self.places[block.shape.weight], left, right)
        found = _unwound(sums) + torch.fft.irfft(spectra, self.length)
        return found.flatten(1) / self.parts**0.5

    def _spectra(
        self, places: Places, left: Float[Tensor, "b t r"], right: Float[Tensor, "b t c"]
    ) -> Complex[Tensor, "b parts f"]:
        """Fourier transforms of the sketches of Σ_t left ⊗ right."""
        first = torch.fft.rfft(places.row_sketches(left.flatten(0, 1)))
        second = torch.fft.rfft(places.column_sketches(right.flatten(0, 1)))
        return first.mul_(second).sum(2).unflatten(0, left.shape[:2]).sum(1)

    def _split(self, block: Block) -> _Split:
        """The block's terms by how they are sketched; a bias is always counted entry by entry."""
        shape, found = block.shape, _Split()
        others = []
        for term in block.terms:
            if isinstance(term, Lookup) and shape.bias is None and not shape.transposed:
                found.lookups.append(term)
            elif self._by_factors(term):
                left, right = term.left, term.right
                if shape.bias is not None:
                    found.add(shape.bias, (left * right[:, :, -1:]).sum(1))
                    right = right[:, :, :-1]
                found.factors.append((right, left) if shape.transposed else (left, right))
            else:
                others.append(term)
        if others:
            for name, values in shape.named(replace(block, terms=tuple(others)).materialize()).items():
                found.add(name, values)
        return found


@dataclass
class _Split:
    """A block's gradients: entry by entry by parameter; rows that are looked up; outer products."""

    matrices: dict[str, Float[Tensor, "b _"]] = field(default_factory=dict)
    lookups: list[Lookup] = field(default_factory=list)
    factors: list[tuple[Float[Tensor, "b t r"], Float[Tensor, "b t c"]]] = field(default_factory=list)

    def add(self, name: str, values: Float[Tensor, "b _"]) -> None:
        """More of a parameter's gradients."""
        self.matrices[name] = self.matrices[name] + values if name in self.matrices else values


def seeded(seed: int, *numbers: int) -> np.random.Generator:
    """Random numbers by a seed and the numbers of what they are for, which no other seed with other numbers gives."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=numbers)))


def _counted(
    values: Float[Tensor, "n size"], bins: Int[Tensor, "*sketches size"], length: int
) -> Float[Tensor, "n *sketches length"]:
    """Count sketches: the sum of the values in each bin, less that of those in the bin ``length`` later."""
    sums = values.new_zeros(len(values), *bins.shape[:-1], 2 * length)
    each = values.reshape(len(values), *[1] * (bins.dim() - 1), -1)
    size = len(values), *bins.shape
    return _signed(sums.scatter_add_(-1, bins.expand(size), each.expand(size)))


def _signed(sums: Float[Tensor, "*n twice"]) -> Float[Tensor, "*n length"]:
    """The first half less the second."""
    positive, negative = sums.chunk(2, dim=-1)
    return positive - negative


def _unwound(sums: Float[Tensor, "*n six"]) -> Float[Tensor, "*n length"]:
    """Sums by the bins of `Places.entries`: two rounds for none, one and two minus signs."""
    none, one, two = sums.unflatten(-1, (3, 2, -1)).sum(-2).unbind(-2)
    return none - one + two
