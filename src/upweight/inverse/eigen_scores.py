"""Scores of pairs by matrices that are diagonal in a known basis: ∇L_qᵀQ diag(1/(Λ+λ+δ)) Qᵀ∇ℓ_z, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.kronecker import single
from upweight.gradients import Block, Gradients, Shape
from upweight.gradients.blocks import Seen, concatenated, conformed, unseen
from upweight.gradients.terms import Outer, Term
from upweight.gradients.workspace import Workspace
from upweight.inverse.layer_costs import EXACT_WORK
from upweight.inverse.separable import pair_scores, separable
from upweight.linalg.ranks import rank_agreement
from upweight.linalg.truncated import truncated
from upweight.objective import Objective

LEAST_AGREEMENT, STEPS = 0.99, 3
"""Spearman with exact scores from which a shorter sum is taken, and tolerances that are tried, each a quarter."""
SAMPLED = (16, 256)
"""Queries and training examples on which that is looked at."""


Part = Callable[[Block, Seen], Float[Tensor, "q n"]]
"""One block's part of the scores of a batch, which shows the block to whoever looks."""


@dataclass(frozen=True, eq=False)
class EigenScorer:
    """Scores of some queries, block by block.

    Attributes
    ----------
    shapes, parts
        Of every block.
    terms
        Most terms that stand for 1/(Λ+λ+δ) in a block; 0: none does.
    words
        What was approximated, with its figure; "" if nothing was.
    """

    shapes: tuple[Shape, ...]
    parts: tuple[Part, ...]
    terms: int = 0
    words: str = ""

    def __call__(self, train: Gradients, seen: Seen = unseen) -> Float[Tensor, "q n"]:
        """Of every query with every example of a batch."""
        total: Tensor | None = None
        for part, block in zip(self.parts, conformed(train, self.shapes).blocks, strict=True):
            found = part(block, seen)
            total = found if total is None else total.add_(found)
        assert total is not None
        return total


@dataclass(frozen=True)
class Sample:
    """A few queries and training examples on which scores are compared."""

    queries: Gradients
    train: Gradients

    @classmethod
    def of(cls, objective: Objective, queries: Gradients) -> Sample:
        """The first queries, and training examples spread over all."""
        spread = torch.linspace(0, objective.n - 1, min(SAMPLED[1], objective.n)).long()
        batches = [gradients for _, gradients in objective.engine.each(spread)]
        return cls(queries.take(slice(0, SAMPLED[0])), concatenated(batches))

    def __str__(self) -> str:
        return f"{self.queries.examples} × {self.train.examples} pairs"


@dataclass(frozen=True, eq=False)
class EigenScores:
    """What makes scorers.

    Attributes
    ----------
    operator
        Q and Λ of every block.
    denominators
        Λ + λ + δ of a block, by its number.
    tolerance, query_rank
        See `upweight.inverse.EKFAC`.
    """

    operator: EigenOperator
    denominators: Callable[[int], Tensor]
    tolerance: float
    query_rank: int | None

    def scorer(self, queries: Gradients) -> EigenScorer:
        """∇L_qᵀ(H + δI)⁻¹∇ℓ_z of every query and every example of a batch.

        Queries are solved for in the eigenbasis. Then either they leave it, once, or the training gradients enter it,
        batch by batch: per block, whichever counts fewer multiplications. Where queries have one position, 1/(Λ+λ+δ)
        may be a short sum of outer products instead (`upweight.inverse.separable`): to the root of the precision, or,
        where the whole is long work and ``tolerance`` allows it, to a bound that keeps the order of a sample of pairs.
        """
        if self.tolerance and self._single_work(queries) > EXACT_WORK:
            sample = Sample.of(self.operator.objective, queries)
            exact = self.to(sample.queries, None, terms=False)(sample.train)
            for tolerance in (self.tolerance / 4**step for step in range(STEPS)):
                found = self.to(sample.queries, tolerance)
                agreement = rank_agreement(found(sample.train), exact)
                if found.terms and agreement >= LEAST_AGREEMENT:
                    words = f"pairs by at most {found.terms} terms (Spearman {agreement:.4f} with all, on {sample})"
                    return replace(self.to(queries, tolerance), words=words)
        handed = [queries]
        del queries
        return self.to(handed.pop(), None)

    def to(self, queries: Gradients, tolerance: float | None, *, terms: bool = True) -> EigenScorer:
        """To this tolerance of 1/(Λ+λ+δ); without ``terms`` by all its entries."""
        shapes = [basis.shape for basis in self.operator.bases]
        blocks, workspace = list(conformed(queries, shapes).blocks), Workspace()
        del queries  # block by block what is done with is let go, if the caller has
        parts, most, kept = [], 0, 1.0
        for number in range(len(blocks)):
            sides = self.sides(number, blocks[0], tolerance) if terms else None
            most = max(most, 0 if sides is None else len(sides[0]))
            part, share = self._part(number, blocks.pop(0), workspace, sides)
            parts.append(part)
            kept = min(kept, share)
        words = "" if self.query_rank is None else f"queries of rank {self.query_rank} (≥ {kept:.1%} of each kept)"
        return EigenScorer(tuple(shapes), tuple(parts), most, words)

    def _single_work(self, queries: Gradients) -> float:
        """Operations of all pairs in blocks of one position, by all entries of 1/(Λ+λ+δ)."""
        terms = [single(block) for block in queries.blocks]
        sizes = [term.shape[0] * term.shape[1] for term in terms if isinstance(term, Outer) and term.left.shape[1] == 1]
        return 2.0 * self.operator.objective.n * queries.examples * sum(sizes)

    def _part(
        self, number: int, queries: Block, workspace: Workspace, sides: tuple[Tensor, Tensor] | None
    ) -> tuple[Part, float]:
        """One block's part of the scores, and the least share of a query that it keeps."""
        basis = self.operator.bases[number]
        term = basis.term(queries)

        def inside(score: Callable[[Term], Tensor]) -> Part:
            def scores_inside(train: Block, seen: Seen) -> Tensor:
                if seen is not unseen:
                    seen(train.formed(workspace))
                return score(basis.term(train))

            return scores_inside

        if sides is not None and isinstance(term, Outer):
            return inside(pair_scores(term, sides)), 1.0
        solved = _divided(term, self.denominators(number))
        if self.query_rank is not None and self.query_rank < min(solved.shape[1:]):
            left, right, kept = truncated(basis.out_of(solved), self.query_rank)
            return _of_low_rank(Block(basis.shape, (Outer(left, right),)), workspace), float(kept.min())
        # Whoever looks at training gradients wants them as they were, formed once more if they enter the basis.
        entering = basis.cost(queries) + _forming(single(queries))
        if self.operator.objective.n * entering < len(solved) * _rotation(basis):
            return inside(lambda term: term.inner(solved)), 1.0
        outside = basis.out_of(solved)

        def scores_outside(train: Block, seen: Seen) -> Tensor:
            formed = train.formed(workspace)
            seen(formed)
            return formed.inner(outside)

        return scores_outside, 1.0

    def sides(self, number: int, queries: Block, tolerance: float | None) -> tuple[Tensor, Tensor] | None:
        """1/(Λ+λ+δ) of a block as a sum of outer products, where its queries have one position and it pays."""
        term = single(queries)
        if not isinstance(term, Outer) or term.left.shape[1] > 1 or self.operator.bases[number].flat:
            return None
        if self.query_rank is not None:
            return None
        key = number, tolerance
        if key not in self._known:
            self._known[key] = separable(1 / self.denominators(number), self.operator.values[number], tolerance)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[int, float | None], tuple[Tensor, Tensor] | None]:
        """What `separable` made of the blocks that were asked for, by tolerance."""
        return {}


def _divided(term: Term, denominators: Float[Tensor, "r c"]) -> Float[Tensor, "b r c"]:
    """The gradients over these numbers, in their own memory where it is nobody else's."""
    formed = term.materialize()
    return formed.div_(denominators) if isinstance(term, Outer) else formed / denominators


def _of_low_rank(queries: Block, workspace: Workspace) -> Part:
    """Scores of queries that are short sums of products: by their positions, or formed anew for every batch."""

    def scores(train: Block, seen: Seen) -> Tensor:
        formed = train.formed(workspace)
        seen(formed)
        term = single(train)
        if isinstance(term, Outer) and formed is train:
            return queries.gram(train)
        return formed.inner(queries.materialize())

    return scores


def _forming(term: Term) -> int:
    """Multiplications of a sum over several positions."""
    if not isinstance(term, Outer) or term.left.shape[1] == 1:
        return 0
    return term.left.shape[1] * term.shape[0] * term.shape[1]


def _rotation(basis: Basis) -> int:
    """Multiplications of turning one whole matrix of the block."""
    return sum(len(q) for q in (basis.left, basis.right) if q is not None) * basis.shape.rows * basis.shape.columns
