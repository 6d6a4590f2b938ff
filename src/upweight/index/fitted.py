"""Projectors fitted to an objective by the settings of `upweight.index.projections`, and read back from a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.baselines.sketch import Sketch
from upweight.curvature import EmpiricalFisher, Fisher, RowCurvature
from upweight.curvature.eigenbasis import EigenOperator
from upweight.curvature.kronecker import kronecker_factors
from upweight.curvature.rows import sampleable
from upweight.errors import InputError
from upweight.gradients import Gradients, Shape
from upweight.gradients.blocks import conformed
from upweight.gradients.terms import Outer
from upweight.index.projections import Leading, LowRank, Projection, Sparse
from upweight.index.projectors import Entries, Factors, Projector, Sketched, Whole
from upweight.index.sides import Side, Sides, random_side
from upweight.inverse.eigenbasis import eigenbases
from upweight.inverse.ekfac import diagonalised
from upweight.objective import Objective

NOTHING = torch.zeros(2, 0, dtype=torch.float64)
"""No groups."""
BINS = 128
"""Groups of eigenvalues left out, by their size, that are kept for the choice of the damping."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A projector with what is known of its numbers.

    Attributes
    ----------
    scale
        Numbers of a row are kept divided by this ``[k]``, so that all are of one size in int8.
    penalty
        λ of each number of a row ``[k]``; of factors of each layer.
    inside, outside
        Second moments of the entries that are kept, and of those left out, in groups: values and how many. Nothing
        where they aren't known.
    lossless
        Whether inner products of rows are those of gradients.
    """

    projector: Projector
    scale: Float[Tensor, " k"]
    penalty: Float[Tensor, " k"]
    inside: Float[Tensor, "2 bins"]
    outside: Float[Tensor, "2 others"]
    lossless: bool

    @cached_property
    def width(self) -> int:
        """Numbers of a row."""
        return sum(self.projector.widths)

    def of(self, gradients: Gradients) -> Float[Tensor, "b k"]:
        """Rows as they are kept, but for their precision."""
        return self.projector.of(gradients) / self.scale.to(gradients.dtype)


def fit(projection: Projection, objective: Objective) -> Fitted:
    """Make the projector; those by eigenvectors take passes over the training data."""
    if isinstance(projection, Leading):
        return _leading(projection, objective)
    sides, inside, outside = _two_sided(projection, objective)
    return _plain(projection, objective, sides, inside, outside)


def restore(projection: Projection, kept: Mapping[str, Tensor], objective: Objective) -> Projector:
    """A projector from what a store kept of it; the rest is made from the seed."""
    shapes = objective.engine.function.plan.shapes
    if isinstance(projection, Leading):
        sides = _sides_read(shapes, kept, objective)
        device = objective.device
        places = [(kept[f"rows.{n}"].to(device), kept[f"columns.{n}"].to(device)) for n in range(len(shapes))]
        return Entries(sides, tuple(places))
    sides = _sides_read(shapes, kept, objective) if kept else _two_sided(projection, objective)[0]
    return _plain(projection, objective, sides, NOTHING, NOTHING).projector


def sampling(objective: Objective, seed: int) -> RowCurvature:
    """Whose K-FAC factors the eigenvectors are of: the Fisher's, of one target drawn per example, where there is one.

    By agreement with retraining it is better than the empirical Fisher, whose rows vanish where examples are fitted.
    """
    try:
        sampleable(objective)
    except InputError:
        return EmpiricalFisher()
    return Fisher(1, seed)


def _leading(projection: Leading, objective: Objective) -> Fitted:
    rows = sampling(objective, projection.seed).rows(objective)
    bases = [basis for basis, _, _ in eigenbases(kronecker_factors(rows), objective.dtype)]
    operator = diagonalised(rows, bases, "K-FAC's basis")
    order = {shape: number for number, shape in enumerate(objective.engine.function.plan.shapes)}
    numbers = sorted(range(len(bases)), key=lambda number: order[bases[number].shape])
    return _entries(projection, objective, operator, numbers)


def _entries(projection: Leading, objective: Objective, operator: EigenOperator, numbers: Sequence[int]) -> Fitted:
    values = [operator.values[number].reshape(-1) for number in numbers]
    every = torch.cat(values)
    count = min(projection.dimension, len(every))
    # Stable, so that equal values are taken in the same order by every machine.
    chosen = every.argsort(descending=True, stable=True)[:count].sort().values
    sides, places, penalties, begin = [], [], [], 0
    for number, part in zip(numbers, values, strict=True):
        mine = chosen[(chosen >= begin) & (chosen < begin + len(part))] - begin
        begin += len(part)
        basis = operator.bases[number]
        shape = basis.shape
        columns = shape.rows * shape.columns if basis.flat else shape.columns
        (left, rows), (right, others) = (
            _used(matrix, index) for matrix, index in ((basis.left, mine // columns), (basis.right, mine % columns))
        )
        sides.append(Sides(shape, left, right, basis.flat))
        places.append((rows, others))
        penalties.append(part.new_full((len(mine),), _mean_l2(objective, shape)))
    inside = every[chosen]
    left_out = torch.ones_like(every, dtype=torch.bool).index_fill_(0, chosen, False)
    largest = float(inside.max()) if len(inside) else 0.0
    scale = torch.where(inside > torch.finfo(inside.dtype).eps * largest, inside, 1.0).sqrt()
    outside = binned(every[left_out])
    whole = count == objective.p
    projector = Entries(tuple(sides), tuple(places))
    return Fitted(projector, scale, torch.cat(penalties), binned(inside), outside, whole)


def _used(matrix: Tensor | None, index: Tensor) -> tuple[Side, Tensor]:
    """The side cut to the columns that are used, and where each entry is among them."""
    used, where = index.unique(return_inverse=True)
    return (Side(None, used) if matrix is None else Side(matrix[:, used].contiguous())), where


def binned(values: Float[Tensor, " n"]) -> Float[Tensor, "2 bins"]:
    """Positive values in `BINS` groups of like size: their mean, and how many they are."""
    positive = values[values > 0].double()
    if not len(positive):
        return values.new_zeros(2, 0, dtype=torch.float64)
    logs = positive.log()
    low, high = float(logs.min()), float(logs.max())
    which = ((logs - low) / max(high - low, 1e-12) * (BINS - 1)).round().long()
    counts = torch.bincount(which, minlength=BINS).double()
    sums = torch.zeros(BINS, dtype=torch.float64, device=values.device).index_add_(0, which, positive)
    there = counts > 0
    return torch.stack([sums[there] / counts[there], counts[there]])


def _plain(projection: Any, objective: Objective, sides: tuple[Sides, ...], inside: Tensor, outside: Tensor) -> Fitted:
    """A projector that keeps all numbers of its sides."""
    like = objective.params
    if isinstance(projection, Sparse):
        exact = projection.dimension >= objective.p
        width = min(projection.dimension, objective.p)
        sketch = None if exact else Sketch.drawn(objective.layout, width, (projection.seed,), objective.device)
        projector: Projector = Sketched(sketch, width)
        penalty = objective.l2 if exact else like.new_full((width,), float(objective.l2.mean()))
        lossless = exact
    else:
        stored = (
            projection.basis == "leading" and (projection.size if isinstance(projection, LowRank) else 1) is not None
        )
        made = Factors(sides, projection.rank, stored) if isinstance(projection, LowRank) else Whole(sides, stored)
        projector = made
        shares = [_mean_l2(objective, each.shape) for each in sides]
        each = 2 if isinstance(projection, LowRank) else 1
        lambdas = [share for share in shares for _ in range(each)]
        penalty = torch.cat([like.new_full((w,), x) for w, x in zip(made.widths, lambdas, strict=True)])
        whole = all(s.left.matrix is None and s.right.matrix is None for s in sides)
        lossless = whole and (not isinstance(made, Factors) or _of_rank(objective, made))
    width = sum(projector.widths)
    return Fitted(projector, like.new_ones(width), penalty, inside, outside, lossless)


def _of_rank(objective: Objective, factors: Factors) -> bool:
    """Whether no example's gradients have more factors than are kept, by the first one."""
    found = objective.engine.function.each(objective.params, objective.data.take([0]))
    blocks = conformed(found, [each.shape for each in factors.sides]).blocks
    for (rank, rows, columns), sides, block in zip(factors.shapes, factors.sides, blocks, strict=True):
        term = sides.of(block)
        if rank < min(rows, columns) and not (isinstance(term, Outer) and term.left.shape[1] <= rank):
            return False
    return True


def _two_sided(projection: Projection, objective: Objective) -> tuple[tuple[Sides, ...], Tensor, Tensor]:
    """The sides of every layer, for `Factored` and `LowRank`, and second moments of entries kept and left out."""
    shapes = objective.engine.function.plan.shapes
    if isinstance(projection, Sparse | Leading):
        return (), NOTHING, NOTHING
    size = projection.size
    if size is None:
        return tuple(Sides(shape) for shape in shapes), NOTHING, NOTHING
    if projection.basis == "random":
        drawn = tuple(
            Sides(
                shape,
                random_side(shape.rows, size, (projection.seed, number, 0), objective.params),
                random_side(shape.columns, size, (projection.seed, number, 1), objective.params),
            )
            for number, shape in enumerate(shapes)
        )
        return drawn, NOTHING, NOTHING
    rows = sampling(objective, projection.seed).rows(objective)
    found, moments = {}, {}
    for basis, left_values, right_values in eigenbases(kronecker_factors(rows), objective.dtype):
        found[basis.shape] = basis
        moments[basis.shape] = left_values.flip(0).outer(right_values.flip(0))
    seeds = {shape: (projection.seed, number) for number, shape in enumerate(shapes)}
    made = []
    for shape in shapes:
        basis = found[shape]
        ends = (None if basis.flat else basis.left, shape.rows), (None if basis.flat else basis.right, shape.columns)
        left, right = (
            _largest(matrix, entries, size, (*seeds[shape], side), objective.params)
            for side, (matrix, entries) in enumerate(ends)
        )
        made.append(Sides(shape, left, right))
    kept, left_out = [], []
    for sides in made:
        values = moments[sides.shape]
        inside = torch.zeros_like(values, dtype=torch.bool)
        if values.shape == (sides.shape.rows, sides.shape.columns):
            inside[: sides.sizes[0], : sides.sizes[1]] = True
        kept.append(values[inside])
        left_out.append(values[~inside])
    return tuple(made), binned(torch.cat(kept)), binned(torch.cat(left_out))


def _largest(matrix: Tensor | None, entries: int, size: int, seed: tuple[int, ...], like: Tensor) -> Side:
    """The eigenvectors of the largest eigenvalues, which come last; at random where there are none."""
    if matrix is None:
        return random_side(entries, size, seed, like)
    return Side(matrix.flip(1)[:, :size].contiguous()) if size < entries else Side()


def _mean_l2(objective: Objective, shape: Shape) -> float:
    named = objective.layout.unflatten(objective.l2)
    return float(torch.cat([named[name].flatten() for name in shape.names]).mean())


def _sides_read(shapes: Sequence[Shape], kept: Mapping[str, Tensor], objective: Objective) -> tuple[Sides, ...]:
    def side(name: str, number: int) -> Side:
        matrix, chosen = kept.get(f"{name}.{number}"), kept.get(f"{name}_chosen.{number}")
        return Side(
            None if matrix is None else matrix.to(objective.params),
            None if chosen is None else chosen.to(objective.device),
        )

    return tuple(
        Sides(shape, side("left", number), side("right", number), bool(kept[f"flat.{number}"]))
        for number, shape in enumerate(shapes)
    )
