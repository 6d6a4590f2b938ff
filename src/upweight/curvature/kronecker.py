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

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from upweight.checks.overflow import overflow
from upweight.curvature.moments import SecondMoment
from upweight.curvature.rows import Rows
from upweight.data import sent
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
NEGLIGIBLE = 1e-4
"""Of an example's largest gradient at a position, what is none."""
ROUNDING = 1e-6
"""The same of its largest over all blocks: models round to float32 within, whatever θ has."""


@dataclass(frozen=True, eq=False)
class Kronecker:
    """left ⊗ right; a side is a symmetric matrix ``[d, d]`` or the diagonal of one ``[d]``.

    Attributes
    ----------
    flat
        Whether the block is seen as one row, ``[1, r·c]``, and left is the number 1.
    """

    left: Tensor
    right: Tensor
    flat: bool


def kronecker_factors(
    rows: Rows, approximation: Approximation = "expand", which: Inputs = "active"
) -> dict[Shape, Kronecker]:
    """The two sides of every block, in the precision of the rows; one pass over them.

    Raises
    ------
    InputError
        If a row holds NaN or infinite values; names the training example.
    """
    mixed = frozenset[Shape]()
    while True:
        sums = side_sums(rows, None, mixed, approximation, which)
        refuse_not_finite(rows, [part for sides in sums.values() for part in sides.parts])
        again = mixed_shapes(sums)
        if not again:
            return kronecker(sums, rows.weights)
        mixed |= again  # products in some batches and not in others: as gradients in all


def side_sums(
    rows: Rows, chosen: Tensor | None, mixed: frozenset[Shape], approximation: Approximation, which: Inputs
) -> dict[Shape, Sides]:
    """Both sides of every block, summed over these rows (None: all); those of ``mixed`` blocks from gradients."""
    inputs, sums = input_weights(rows), dict[Shape, Sides]()
    with flushed():
        for some, factors in blocks(rows, chosen):
            counted = inputs[sent(some, inputs.device)]
            masks = active(factors) if which == "active" else [None] * len(factors.blocks)
            for block, mask in zip(factors.blocks, masks, strict=True):
                sides = sums.setdefault(block.shape, Sides(block.shape, block.shape in mixed))
                sides.add(block, counted, mask, approximation)
            del factors  # before the next ones are made
    return sums


def mixed_shapes(sums: Mapping[Shape, Sides]) -> frozenset[Shape]:
    """Blocks whose gradients were products in some batches, and none in others."""
    return frozenset(shape for shape, sides in sums.items() if sides.is_mixed)


def input_weights(rows: Rows) -> Float[Tensor, " rows"]:
    """How much the inputs of each row count in a mean: an example's weight, split among its rows."""
    weights = rows.objective.weights
    shares = torch.bincount(rows.positions, minlength=len(weights)).to(weights)
    return (weights / shares.clamp_min(1))[rows.positions.to(weights.device)]


def blocks(rows: Rows, chosen: Tensor | None = None) -> Iterator[tuple[Tensor, Gradients]]:
    """Rows as factors (None: all), in blocks that fit memory with the largest matrix that is made of one at a time."""
    first = rows.factors(torch.arange(min(2, len(rows))))
    matrices = [block.shape.rows * block.shape.columns for block in first.blocks if positions(block) != 1]
    size = rows.objective.engine.rows_beside(max(matrices, default=0))
    count = len(rows) if chosen is None else len(chosen)
    yield from track(rows.blocks(size, chosen=chosen), f"rows of the {rows.name}", total=-(-count // size))


def refuse_not_finite(rows: Rows, sums: Iterable[Tensor] = ()) -> None:
    """Look for NaN and infinite values where sums over all rows aren't finite; without sums, in any case.

    Raises
    ------
    InputError
        Names the training example, or the parameter whose gradients are finite and too large for their squares.
    """
    totals = [part.sum() for part in sums]
    if totals and bool(torch.isfinite(torch.stack(totals)).all()):
        return
    for chosen, factors in blocks(rows):
        for block in factors.blocks:
            _refuse_block(rows, chosen, block)
    if totals:
        raise InputError(
            f"gradients: squares of the rows of the {rows.name} overflow in {rows.objective.dtype}; give an objective "
            "in a wider precision, objective.to(torch.float64)"
        )


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


class Sides:
    """Both sides of one block, summed over rows: of products, and of gradients that are none."""

    def __init__(self, shape: Shape, is_gradients: bool):
        self._shape, self._is_gradients = shape, is_gradients
        self._products: tuple[SecondMoment | Tensor, SecondMoment, Tensor] | None = None
        self._others: tuple[SecondMoment | None, SecondMoment, Tensor] | None = None

    def add(
        self, block: Block, inputs: Float[Tensor, " b"], mask: Bool[Tensor, "b t"] | None, approximation: Approximation
    ) -> None:
        """Some rows' block, of which these positions count (None: all)."""
        term = Direct(block.materialize()) if self._is_gradients else single(block)
        if isinstance(term, Direct):
            self._add_gradients(term.values)
        elif approximation == "reduce" and isinstance(term, Outer):
            self._add_products(_reduced(term, mask), inputs, None)
        else:
            self._add_products(term, inputs, mask)

    def _add_products(
        self, term: Outer | Lookup, inputs: Float[Tensor, " b"], mask: Bool[Tensor, "b t"] | None
    ) -> None:
        """Σ g gᵀ, and Σ a aᵀ of the inputs that count."""
        shape, counted = self._shape, inputs[:, None]
        if term.right.shape[1] > 1:
            counted = counted.expand(term.right.shape[:2]) if mask is None else counted * mask
        flat = counted.reshape(-1, 1)
        if self._products is None:
            count = inputs.new_zeros((), dtype=torch.float64)
            left = inputs.new_zeros(term.rows) if isinstance(term, Lookup) else _second_moment(shape.rows, inputs)
            self._products = (left, _second_moment(shape.columns, inputs), count)
        left, right, count = self._products
        count += flat.sum()
        if isinstance(term, Lookup):
            assert isinstance(left, Tensor)
            left.index_add_(0, term.index.reshape(-1), flat[:, 0])
            right.add(term.right.flatten(0, 1))
            return
        assert isinstance(left, SecondMoment)
        left.add(term.left.flatten(0, 1))
        right.add(term.right.flatten(0, 1) * flat.sqrt())

    def _add_gradients(self, values: Float[Tensor, "b r c"]) -> None:
        """vec(M) vec(M)ᵀ, or MMᵀ and MᵀM."""
        count, rows, columns = values.shape
        if self._others is None:
            sizes = (None, rows * columns) if exact(self._shape) else (rows, columns)
            left, right = (None if size is None else _second_moment(size, values) for size in sizes)
            assert right is not None
            self._others = (left, right, values.new_zeros((), dtype=torch.float64))
        left, right, total = self._others
        if left is None:
            right.add(values.flatten(1))
            return
        left.add(values.mT.reshape(count * columns, rows))
        right.add(values.reshape(count * rows, columns))
        total += (values**2).sum()

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that was summed, by name; `of` makes the same of it."""
        names = ("left", "right", "count")
        pairs = (("products", self._products), ("others", self._others))
        return {
            f"{kind}.{name}": part.entries if isinstance(part, SecondMoment) else part
            for kind, held in pairs
            for name, part in zip(names, held or (), strict=False)
            if part is not None
        }

    @classmethod
    def of(cls, shape: Shape, tensors: Mapping[str, Tensor]) -> Sides:
        """Sums that were made elsewhere, as `tensors` has them; nothing can be added to them."""
        found = cls(shape, False)
        held = {name: SecondMoment.of(value) for name, value in tensors.items() if not name.endswith("count")}
        if "products.right" in held:
            found._products = (held["products.left"], held["products.right"], tensors["products.count"])
        if "others.right" in held:
            found._others = (held.get("others.left"), held["others.right"], tensors["others.count"])
        return found

    @property
    def parts(self) -> list[Tensor]:
        """All that was summed."""
        found = [*(self._products or ()), *(self._others or ())]
        return [part.entries if isinstance(part, SecondMoment) else part for part in found if part is not None]

    @property
    def is_mixed(self) -> bool:
        """Whether gradients were products in some batches and no products in others, where they don't vanish."""
        return self._products is not None and self._others is not None and bool(self._others[1].entries.any())

    def matrices(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Left, right times a number, and the number."""
        if self._products is not None:
            left, right, count = self._products
            first = left if isinstance(left, Tensor) else left.matrix()
            return first, right.matrix(), count
        assert self._others is not None
        rows, columns, total = self._others
        if rows is None:
            return like.new_ones(1, 1), columns.matrix(), like.new_ones((), dtype=torch.float64)
        return rows.matrix(), columns.matrix(), total

    @property
    def is_flat(self) -> bool:
        """Whether the whole matrix was kept."""
        return self._products is None and exact(self._shape)


def kronecker(sums: Mapping[Shape, Sides], like: Tensor) -> dict[Shape, Kronecker]:
    """The two sides of every block, those of a block without gradients zero; the device is asked once for all."""
    found = {shape: sides.matrices(like) for shape, sides in sums.items()}
    there = [torch.stack([left.any(), right.any(), total > 0]).all() for left, right, total in found.values()]
    made: dict[Shape, Kronecker] = {}
    for shape, is_there in zip(list(found), torch.stack(there).tolist(), strict=True):
        left, right, total = found.pop(shape)
        if is_there:
            made[shape] = Kronecker(left, right.div_(total.to(right)), sums[shape].is_flat)
        else:
            made[shape] = Kronecker(like.new_zeros(shape.rows), like.new_zeros(shape.columns), False)
    return made


def _second_moment(size: int, like: Tensor) -> SecondMoment:
    return SecondMoment(size, like, is_diagonal=size > LONGEST_SIDE)


def _reduced(term: Outer, mask: Bool[Tensor, "b t"] | None) -> Outer:
    """One position: the sum of g, and the mean of a over the positions that count."""
    if mask is None:
        return Outer(term.left.sum(1, keepdim=True), term.right.mean(1, keepdim=True))
    there = mask[:, :, None]
    mean = (term.right * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp_min(1)
    return Outer(term.left.sum(1, keepdim=True), mean)


def active(factors: Gradients) -> list[Bool[Tensor, "b t"] | None]:
    """Which positions of each block have a gradient, beyond the rounding of what cancels; None: all, where it has one.

    A first token's query has no gradient, say, since it attends to itself alone; computed, it is zero or rounding.
    """
    sizes = [_sizes(block) for block in factors.blocks]
    several = [each is not None and each.shape[1] > 1 for each in sizes]
    if not any(several):
        return [None] * len(sizes)
    largest = torch.stack([each.amax(1) for each in sizes if each is not None])
    least = iter(torch.maximum(NEGLIGIBLE * largest, ROUNDING * largest.amax(0))[:, :, None].unbind())
    bounds = [None if each is None else next(least) for each in sizes]
    return [
        each > bound if many and each is not None and bound is not None else None
        for each, bound, many in zip(sizes, bounds, several, strict=True)
    ]


def _sizes(block: Block) -> Float[Tensor, "b t"] | None:
    """The largest entry of the gradient at every position; None where no term has positions."""
    sides = [
        term.left if isinstance(term, Outer) else term.right for term in block.terms if not isinstance(term, Direct)
    ]
    found = [torch.linalg.vector_norm(side, math.inf, dim=2) for side in sides]
    return None if not found else found[0] if len(found) == 1 else torch.cat(found, dim=1)


def _refuse_block(rows: Rows, chosen: Tensor, block: Block) -> None:
    for side in (side for term in block.terms for side in _sides(term)):
        bad = (~torch.isfinite(side)).flatten(1).any(1).nonzero()
        if len(bad):
            position = int(rows.positions[chosen[int(bad[0, 0])]])
            problem = rows.objective.problem
            raise InputError(
                f"gradients: NaN or infinite for training example {position}, at {' and '.join(block.shape.names)}; "
                + (
                    overflow(problem, problem.data.take([position])).removeprefix("; ")
                    or "look for a root, a norm or a logarithm at zero in the model, or leave the example out"
                )
            )


def _sides(term: Term) -> tuple[Tensor, ...]:
    if isinstance(term, Direct):
        return (term.values,)
    return (term.left, term.right) if isinstance(term, Outer) else (term.right,)
