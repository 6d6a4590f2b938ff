"""What the stages of the dual's work cost: inner products of rows, and bytes of tensors at the peak of each."""

from __future__ import annotations

from dataclasses import dataclass

from upweight.curvature.kronecker import single
from upweight.curvature.rows import spectra_bytes
from upweight.gradients.blocks import Gradients
from upweight.gradients.terms import Lookup, Outer, Term
from upweight.gradients.workspace import SMALL
from upweight.inverse.costs import Counts, Stage


@dataclass(frozen=True)
class Pairs:
    """What inner products of two sets of gradients hold.

    Attributes
    ----------
    terms
        One example's, block by block, in the form that holds fewest numbers.
    numbers
        Theirs.
    levels
        Values of λ, each with a matrix of its own.
    """

    terms: tuple[Term, ...]
    numbers: int
    levels: int

    @classmethod
    def of(cls, gradients: Gradients, levels: int) -> Pairs:
        """From one example's gradient."""
        return cls(tuple(single(block) for block in gradients.blocks), gradients.numbers, levels)

    @property
    def tables(self) -> int:
        """Matrices of all pairs at a time: the sum, a block's, and the product of its other side."""
        summed = 0 if len(self.terms) == 1 else 1
        several = summed + 1 + any(isinstance(term, Outer) and term.left.shape[1] == 1 for term in self.terms)
        return several if self.levels == 1 else max(several + self.levels - 1, 2 * self.levels)

    def held(self, first: int, second: int) -> int:
        """Numbers for so many by so many."""
        return self.tables * first * second + max(_written(term, first, second) for term in self.terms)


def _written(term: Term, first: int, second: int) -> int:
    """Numbers that a block's inner products hold beside the pairs: gradients written out, or pieces of products."""
    rows, columns = term.shape
    if isinstance(term, Lookup):
        t = term.right.shape[1]
        return min(SMALL, first * rows * columns) + 2 * min(SMALL, first * second * t * columns)
    if not isinstance(term, Outer) or term.left.shape[1] == 1:
        return 0
    t = term.left.shape[1]
    if t * t * (rows + columns) > rows * columns:
        return (first + second) * rows * columns
    return 2 * min(SMALL, first * second * t * t)


def pairs_of(counts: Counts) -> Pairs:
    """Of the objective's gradients."""
    objective = counts.objective
    found = objective.engine.function.each(objective.params, objective.data.take([0]))
    return Pairs.of(found, len(objective.l2.unique()))


def dual_stages(counts: Counts, rows: int, *, spectral: bool = False) -> list[Stage]:
    """The work of `Dual`, of so many rows.

    ``spectral``: they are chosen among eigenvectors in the outputs, which are kept for all examples.
    """
    objective, n, q, w = counts.objective, counts.objective.n, counts.queries, counts.pair
    engine, item, p = objective.engine, counts.item, objective.p
    products = 2.0 * (q * n + q * rows + rows * n) * w + 2.0 * q * rows * n
    dense = 2.0 * q * p * (2 * rows + n)
    pairs, levels = pairs_of(counts), len(objective.l2.unique())
    spectra = spectra_bytes(objective) if spectral else 0
    batch, made = min(engine.rows_beside(3 * rows), n), min(engine.pass_rows, rows)
    kept, square, held = item * rows * pairs.numbers * levels, item * rows**2, item * engine.held
    solver = (levels + 1) * square + kept + spectra
    scoring = max(pairs.held(q, batch), pairs.held(rows, batch) + q * batch) + batch * pairs.numbers
    return [
        Stage(
            "rows", counts.pass_flops * rows / n, max(kept + made * held, kept * (2 if rows > made else 1)) + spectra
        ),
        Stage("Gram matrix", 2.0 * rows**2 * w, item * pairs.held(rows, rows) + kept + spectra),
        Stage("Cholesky factor", rows**3 / 3, solver + square),
        Stage(
            "queries",
            counts.pass_flops * q / n + 2.0 * q * rows**2,
            solver + item * (q * pairs.numbers + q * rows + pairs.held(q, rows)),
        ),
        Stage(
            "scores",
            counts.pass_flops + min(products, dense),
            solver + item * q * (n + rows + pairs.numbers) + max(item * scoring, batch * held),
        ),
    ]
