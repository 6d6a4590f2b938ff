"""Σ rows rowsᵀ of every block as a Kronecker product left ⊗ right, from one pass over the rows.

Which two matrices, by what a block's gradients are made of:

- *products* Σ_t g_t a_tᵀ (g the output's gradient, a the input), K-FAC (Martens & Grosse 2015). ``expand`` takes
  positions for independent: left = Σ g gᵀ over rows and positions, right = the mean of a aᵀ over positions.
  ``reduce`` sums g and averages a over an example's positions first (Eschenhagen et al. 2023). The rows carry the
  weights of the curvature, so left ⊗ right has its trace wherever g and a are independent.
- *lookups* in an embedding: as ``expand``; the inputs are unit vectors, so their matrix is a histogram, a diagonal.
- *anything else* (scales of norms, plain parameters, grouped convolutions, uses of different kinds such as a tied
  embedding): from the gradients M themselves. Up to `EXACT` entries nothing is approximated: 1 ⊗ Σ vec(M) vec(M)ᵀ.
  Beyond, Σ MMᵀ ⊗ Σ MᵀM / Σ‖M‖² (Gupta et al. 2018, Shampoo), which keeps the trace too.

The mean over inputs weighs an example by its own weight, however many rows it has. With several positions
``active`` leaves out those whose g vanishes: the loss ignores them, and padding would make the mean depend on the
batches. ``all`` counts them, as Martens & Grosse's definition and curvlinops do: positions that a ReLU switches off
take part. Without padding both have the same trace of left ⊗ right as the curvature wherever g and a are independent.
A side longer than `LONGEST_SIDE` is kept as a diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature.rows import Rows
from upweight.errors import InputError
from upweight.gradients import Block, Gradients, Shape
from upweight.gradients.denormals import flushed
from upweight.gradients.terms import Direct, Lookup, Outer, Term
from upweight.progress import track

Approximation = Literal["expand", "reduce"]
Inputs = Literal["active", "all"]
EXACT = 1024
"""Entries of a block whose whole matrix is kept."""
LONGEST_SIDE = 8192
"""Rows of a side's matrix; more would need more memory than the gradients, and minutes for its eigenvectors."""


@dataclass(frozen=True, eq=False)
class Kronecker:
    """left ⊗ right, in float64; a side is a symmetric matrix ``[d, d]`` or the diagonal of one ``[d]``.

    Attributes
    ----------
    flat
        Whether the block is seen as one row, ``[1, r·c]``, and left is the number 1.
    """

    left: Tensor
    right: Tensor
    flat: bool


@dataclass(frozen=True, eq=False)
class _Sums:
    """The sides summed over rows, and by how much their product is too large; of gradients that are no products too."""

    left: Tensor
    right: Tensor
    count: Float[Tensor, ""]
    flat: bool
    of_gradients: bool = False

    def __add__(self, other: _Sums) -> _Sums:
        return replace(
            self, left=self.left + other.left, right=self.right + other.right, count=self.count + other.count
        )


def kronecker_factors(
    rows: Rows, approximation: Approximation = "expand", which: Inputs = "active"
) -> dict[Shape, Kronecker]:
    """The two sides of every block; one pass over the rows.

    Raises
    ------
    InputError
        If a row holds NaN or infinite values; names the training example.
    """
    inputs, mixed = input_weights(rows), set[Shape]()
    while True:
        forms: dict[Shape, bool] = {}

        def sums(block: Block, chosen: Tensor, forms: dict[Shape, bool] = forms) -> _Sums | None:
            if block.shape in mixed:
                block = replace(block, terms=(Direct(block.materialize()),))
            found = _sums(block, inputs[chosen], approximation, which)
            if found is not None and forms.setdefault(block.shape, found.of_gradients) != found.of_gradients:
                raise _MixedForms(block.shape)
            return found

        try:
            return {shape: _normalised(shape, found, inputs) for shape, found in summed(rows, sums).items()}
        except _MixedForms as error:  # products in some batches and not in others: as gradients in all
            mixed.add(error.args[0])


class _MixedForms(Exception):
    """A block's gradients are products in one batch and no products in another."""


def input_weights(rows: Rows) -> Float[Tensor, " rows"]:
    """How much the inputs of each row count in a mean: an example's weight, split among its rows."""
    weights = rows.objective.weights
    shares = torch.bincount(rows.positions, minlength=len(weights)).to(weights)
    return (weights / shares.clamp_min(1))[rows.positions.to(weights.device)]


Part = TypeVar("Part")


def summed(rows: Rows, part: Callable[[Block, Tensor], Part | None]) -> dict[Shape, Part | None]:
    """Σ over all rows of what ``part`` makes of some rows' block and their numbers; None counts as nothing."""
    total: dict[Shape, Part | None] = {}
    with flushed():
        for chosen, factors in finite_blocks(rows):
            found = {block.shape: part(block, chosen) for block in factors.blocks}
            total = {shape: _added(total.get(shape), value) for shape, value in found.items()}
    return total


def _added(first: Part | None, second: Part | None) -> Part | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second  # type: ignore[operator]


def finite_blocks(rows: Rows) -> Iterator[tuple[Tensor, Gradients]]:
    """All rows as factors, in blocks whose factors and largest matrices fit in memory.

    Raises
    ------
    InputError
        If a row holds NaN or infinite values; names the training example.
    """
    first = rows.factors(torch.arange(min(2, len(rows))))
    matrices = [block.shape.rows * block.shape.columns for block in first.blocks if positions(block) != 1]
    size = rows.objective.engine.block_rows(first.numbers + max(matrices, default=0))
    for chosen, factors in track(rows.blocks(size), f"rows of the {rows.name}", total=-(-len(rows) // size)):
        _refuse_not_finite(rows, chosen, factors)
        yield chosen, factors


def positions(block: Block) -> int | None:
    """Positions of a block whose gradients are sums of products, None if they are anything else."""
    term = single(block)
    return term.left.shape[1] if isinstance(term, Outer) else None


def single(block: Block) -> Term:
    """The block's gradients as one term: lookups of several uses are one with more positions."""
    if len(block.terms) == 1:
        return block.terms[0]
    lookups = [term for term in block.terms if isinstance(term, Lookup)]
    if len(lookups) < len(block.terms):
        return Direct(block.materialize())
    index, right = (torch.cat([getattr(term, name) for term in lookups], dim=1) for name in ("index", "right"))
    return Lookup(index, right, block.shape.rows)


def exact(shape: Shape) -> bool:
    """Whether the whole matrix of a block without Kronecker structure is kept."""
    return shape.rows * shape.columns <= EXACT


def _sums(block: Block, inputs: Float[Tensor, " b"], approximation: Approximation, which: Inputs) -> _Sums | None:
    """One block of rows."""
    term = single(block)
    if isinstance(term, Direct):
        return _gradient_sums(term.values, exact(block.shape))
    if isinstance(term, Outer) and approximation == "reduce":
        term = _reduced(term, which)
    counted = inputs[:, None].expand(term.right.shape[:2])
    if counted.shape[1] > 1 and which == "active":
        counted = counted * _active(term)
    flat = counted.reshape(-1)
    if isinstance(term, Lookup):
        histogram = torch.bincount(term.index.reshape(-1), flat, minlength=term.rows)
        return _Sums(histogram.double(), _second_moment(term.right.flatten(0, 1)), flat.sum().double(), False)
    right = term.right.flatten(0, 1) * flat.sqrt()[:, None]
    return _Sums(_second_moment(term.left.flatten(0, 1)), _second_moment(right), flat.sum().double(), False)


def _gradient_sums(values: Float[Tensor, "b r c"], whole: bool) -> _Sums | None:
    """None where every gradient vanishes, as those of a parameter that these examples don't use."""
    if not values.any():
        return None
    count, rows, columns = values.shape
    if whole:
        ones = values.new_ones(1, 1, dtype=torch.float64)
        return _Sums(ones * count, _second_moment(values.flatten(1)), ones[0, 0] * count, True, True)
    left = _second_moment(values.mT.reshape(count * columns, rows))
    right = _second_moment(values.reshape(count * rows, columns))
    return _Sums(left, right, (values**2).sum().double(), False, True)


def _reduced(term: Outer, which: Inputs) -> Outer:
    """One position: the sum of g, and the mean of a, where g isn't zero or everywhere."""
    active = _active(term)[:, :, None] if which == "active" else torch.ones_like(term.left[:, :, :1])
    mean = (term.right * active).sum(1, keepdim=True) / active.sum(1, keepdim=True).clamp_min(1)
    return Outer(term.left.sum(1, keepdim=True), mean)


def _active(term: Outer | Lookup) -> Float[Tensor, "b t"]:
    """1 at positions with a gradient, 0 at others."""
    gradient = term.left if isinstance(term, Outer) else term.right
    return (gradient != 0).any(2).to(gradient.dtype)


def _second_moment(rows: Float[Tensor, "m d"]) -> Tensor:
    """Σ v vᵀ over rows v, or its diagonal if it is too large."""
    found = (rows**2).sum(0) if rows.shape[1] > LONGEST_SIDE else rows.T @ rows
    return found.double()


def _normalised(shape: Shape, sums: _Sums | None, like: Tensor) -> Kronecker:
    if sums is None or not (sums.count > 0 and bool(sums.left.any()) and bool(sums.right.any())):
        zeros = [like.new_zeros(length, dtype=torch.float64) for length in (shape.rows, shape.columns)]
        return Kronecker(zeros[0], zeros[1], False)
    return Kronecker(sums.left, sums.right / sums.count, sums.flat)


def _refuse_not_finite(rows: Rows, chosen: Tensor, factors: Gradients) -> None:
    for block in factors.blocks:
        for side in (side for term in block.terms for side in _sides(term)):
            if torch.isfinite(side.sum()):
                continue
            bad = (~torch.isfinite(side)).flatten(1).any(1).nonzero()
            if len(bad):
                position = int(rows.positions[chosen[int(bad[0, 0])]])
                raise InputError(
                    f"gradients: NaN or infinite for training example {position}, at {' and '.join(block.shape.names)};"
                    " look for a root, a norm or a logarithm at zero in the model, or leave the example out"
                )


def _sides(term: Term) -> tuple[Tensor, ...]:
    if isinstance(term, Direct):
        return (term.values,)
    return (term.left, term.right) if isinstance(term, Outer) else (term.right,)
