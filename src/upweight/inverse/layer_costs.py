"""What the stages of K-FAC's and EK-FAC's work cost, counted layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from upweight.curvature.kronecker import exact, single
from upweight.gradients import Block
from upweight.gradients.terms import Lookup, Outer
from upweight.gradients.workspace import SMALL
from upweight.inverse.costs import EIGEN_COST, Counts, Stage

EXACT_WORK = 2e11
"""Operations of pairs that no machine minds: they are scored to the root of the precision."""
FEW_TERMS = 8
"""Terms that stand for 1/(Λ+λ+δ) where pairs are long work, as far as is known before Λ is."""
TRIANGLE = 1.25
"""Multiplications and additions of Σ v vᵀ by strips of the upper triangle, over those of a whole product."""


@dataclass(frozen=True)
class Layer:
    """A block: its matrix, positions of an example (0: no factors), sides that are decomposed, lookups."""

    rows: int
    columns: int
    positions: int
    sides: tuple[int, ...]
    lookups: int = 0

    @classmethod
    def of(cls, block: Block) -> Layer:
        """From one example's factors."""
        term, shape = single(block), block.shape
        if isinstance(term, Outer):
            return cls(shape.rows, shape.columns, term.left.shape[1], (shape.rows, shape.columns))
        sides = (shape.rows * shape.columns,) if exact(shape) else (shape.rows, shape.columns)
        return cls(shape.rows, shape.columns, 0, sides, term.right.shape[1] if isinstance(term, Lookup) else 0)

    @property
    def entries(self) -> int:
        """Of its matrix."""
        return self.rows * self.columns

    @property
    def pushed(self) -> int:
        """Numbers that an inner product with a matrix makes on the way, of an example with one position or a lookup."""
        if self.lookups:
            return self.lookups * self.columns
        return min(self.rows, self.columns) if self.positions == 1 else 0

    @property
    def squares(self) -> int:
        """Numbers of both sides' matrices."""
        return sum(side * side for side in self.sides)

    @property
    def turning(self) -> float:
        """Operations of an example's gradient into the eigenbasis, and its sum over positions."""
        t = self.positions
        if not t:
            return 2.0 * self.entries * sum(self.sides)
        across = (self.columns, self.rows)
        turned = sum(
            side * side * (t if t == 1 else min(t, other)) for side, other in zip(self.sides, across, strict=True)
        )
        return 2.0 * turned + 2.0 * t * self.entries

    @property
    def leaving(self) -> float:
        """Operations of one matrix out of the basis."""
        return 2.0 * self.entries * sum(self.sides)


def layers(counts: Counts) -> list[Layer]:
    """Every block of the objective's gradients."""
    objective = counts.objective
    found = objective.engine.function.each(objective.params, objective.data.take([0]), compacted=False)
    return [Layer.of(block) for block in found.blocks]


def kfac_stages(counts: Counts, *, by_factors: bool) -> list[Stage]:
    """The work of `KFAC`, which makes no pass for second moments."""
    return [stage for stage in ekfac_stages(counts, by_factors=by_factors) if stage.name != "second moments"]


def ekfac_stages(counts: Counts, tolerance: float = 0.0, *, by_factors: bool = False) -> list[Stage]:
    """The work of `EKFAC`, bytes of tensors at the peak of each stage.

    ``by_factors``: pairs of one position each never meet as matrices, as with factored damping.
    """
    engine, item, n, q = counts.objective.engine, counts.item, counts.objective.n, counts.queries
    every, p = layers(counts), counts.objective.p
    squares = sum(layer.squares for layer in every)
    largest = max((layer.entries for layer in every if layer.positions > 1), default=0)
    widest = max((layer.positions * max(layer.rows, layer.columns) for layer in every), default=0)
    turned = max((layer.positions * (layer.rows + layer.columns) for layer in every), default=0)
    beside, rows = min(engine.rows_beside(largest), n), min(engine.pass_rows, n)
    passes = 2.0 / 3 * counts.pass_flops
    summing = sum(TRIANGLE * n * max(layer.positions, 1) * layer.squares for layer in every)
    singles = [layer for layer in every if layer.positions == 1]
    is_long = tolerance > 0 and 2.0 * n * q * sum(layer.entries for layer in singles) > EXACT_WORK
    pairs, formed, terms, solved, pieces = 0.0, 0, 0, 0, 0
    for layer in every:
        if layer.positions == 1 and (is_long or by_factors):
            several = 1 if by_factors else FEW_TERMS
            pairs += 2.0 * n * q * several * (layer.rows + layer.columns)
            terms += several * (layer.rows + layer.columns)
        else:
            pairs += 2.0 * n * q * layer.entries + 2.0 * n * layer.positions * layer.entries
            formed += layer.entries
            pieces = max(pieces, 2 * min(SMALL, q * beside * layer.pushed))
            solved = max(solved, layer.entries)
    side = max((max(layer.sides) for layer in every), default=0)
    held, kept = engine.held, squares + p
    factors = sum(
        min(layer.positions * (layer.rows + layer.columns), layer.entries) or layer.entries for layer in every
    )
    scored = max(held, factors + largest + 3 * q)
    later = min(beside, n - beside)  # all scores have their place from the second batch on
    scoring = max(pieces + beside * scored, q * n + (pieces + later * scored if later else q * n))
    return [
        Stage("Kronecker factors", passes + summing, item * (squares + rows * (held + widest))),
        Stage(
            "eigenvectors",
            sum(EIGEN_COST * side**3.0 for layer in every for side in layer.sides),
            item * (squares + 4.0 * side**2),
        ),
        Stage(
            "second moments",
            passes + n * sum(layer.turning for layer in every),
            item * (kept + rows * (held + turned) + 2 * min(SMALL, beside * largest)),
        ),
        Stage(
            "queries",
            passes * q / n + q * sum(layer.turning + layer.leaving for layer in every),
            item * (kept + q * (factors + formed + solved)),
        ),
        Stage("scores", passes + pairs, item * (kept + q * (formed + terms) + scoring) + 8.0 * p),
    ]
