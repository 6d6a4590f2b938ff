"""Inverses of matrices that are diagonal, block by block, in a known basis: K-FAC, EK-FAC and the diagonal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import RowCurvature, Rows
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.kronecker import Kronecker, single
from upweight.errors import InputError
from upweight.gradients import Block, Gradients, Shape
from upweight.gradients.blocks import Seen, concatenated, conformed, unseen
from upweight.gradients.terms import Outer, Term
from upweight.gradients.workspace import Workspace
from upweight.inverse.costs import Counts, Work, diagonal_stages
from upweight.inverse.damping import Damping, resolve
from upweight.inverse.effective import LAYERWISE_SHARE, UNPENALIZED_SHARE, layerwise_damping
from upweight.inverse.interface import Solution, checked, unmeasured
from upweight.inverse.layer_costs import EXACT_WORK, ekfac_stages
from upweight.inverse.separable import pair_scores, separable
from upweight.linalg.eigh import eigenvectors
from upweight.linalg.ranks import rank_agreement
from upweight.linalg.traces import Spectrum
from upweight.linalg.truncated import truncated
from upweight.objective import Objective

LEAST_AGREEMENT, STEPS = 0.99, 3
"""Spearman with exact scores from which a shorter sum is taken, and tolerances that are tried, each a quarter."""
SAMPLED = (16, 256)
"""Queries and training examples on which that is looked at."""


def rows_of(target: object, curvature: RowCurvature, name: str) -> Rows:
    """The curvature's rows for an objective.

    Raises
    ------
    InputError
        If the target is no objective.
    """
    if not isinstance(target, Objective):
        raise InputError(
            f"inverse.{name}: needs an objective, whose curvature it takes by rows; for an operator use CG or Nystrom"
        )
    return curvature.rows(target)


def eigenbasis(shape: Shape, factors: Kronecker, dtype: torch.dtype) -> tuple[Basis, Tensor, Tensor]:
    """The eigenvectors of left ⊗ right, and the eigenvalues of each side, none negative."""
    (left, left_values), (right, right_values) = (_side(side, dtype) for side in (factors.left, factors.right))
    return Basis(shape, left, right, factors.flat), left_values, right_values


def eigenbases(found: dict[Shape, Kronecker], dtype: torch.dtype) -> Iterator[tuple[Basis, Tensor, Tensor]]:
    """`eigenbasis` of every block, whose factors are let go on the way: they are as large as the vectors."""
    for shape in list(found):
        yield eigenbasis(shape, found.pop(shape), dtype)


def _side(side: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
    if side.dim() == 1 or len(side) == 1:
        return None, side.reshape(-1).to(dtype)
    values, vectors = eigenvectors(side, dtype)
    return vectors, values.clamp_min(0)


def resolved(damping: Damping, operator: EigenOperator) -> float:
    """The absolute δ; what is asked of the spectrum is known exactly, from Λ."""

    def spectrum() -> Spectrum:
        values = torch.cat([value.flatten() for value in operator.values]).double()
        return Spectrum(values, torch.ones_like(values))

    if damping == "auto":
        share = LAYERWISE_SHARE if operator.penalized else UNPENALIZED_SHARE
        return layerwise_damping(spectrum(), float(operator.l2.mean()), share)
    return resolve(damping, operator, spectrum)


def refuse_singular(
    operator: EigenOperator, damping: float, denominators: Iterable[Tensor], shifts: Sequence[Tensor | float]
) -> None:
    """Refuse denominators that are zero to rounding where neither l2 nor damping holds them up.

    Raises
    ------
    InputError
        Names the parameter.
    """
    for basis, values, shift in zip(operator.bases, denominators, shifts, strict=True):
        lowest = float(torch.as_tensor(shift).min())
        if lowest <= 0 and float(values.min()) <= torch.finfo(values.dtype).eps * float(values.max()):
            raise InputError(
                f"damping: the {operator.name} is singular in {basis.shape.weight!r}, which has no l2; "
                f"give damping > 0 (got {damping:g})"
            )


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

    def exact(self, solver: EigenSolver) -> Float[Tensor, "q n"]:
        """Scores by all entries of 1/(Λ+λ+δ)."""
        return solver._scorer(self.queries, None, terms=False)(self.train)

    def __str__(self) -> str:
        return f"{self.queries.examples} × {self.train.examples} pairs"


@dataclass(frozen=True, eq=False)
class EigenSolver:
    """Q diag(1/(Λ + λ + δ)) Qᵀ, block by block.

    The residual against the matrix that Λ and Q approximate costs a pass over its rows, and is not measured.

    Attributes
    ----------
    operator
        The approximation: Λ and Q of every block, with the penalty.
    tolerance, query_rank
        Of pairs' scores: see `upweight.inverse.EKFAC`.
    """

    operator: EigenOperator
    damping: float
    tolerance: float = 0.0
    query_rank: int | None = None

    @classmethod
    def of(
        cls, operator: EigenOperator, damping: Damping, tolerance: float = 0.0, query_rank: int | None = None
    ) -> EigenSolver:
        """The solver at a damping; a multiple of the mean eigenvalue is exact, from ΣΛ."""
        return cls(operator, resolved(damping, operator), tolerance, query_rank)

    def __post_init__(self) -> None:
        shifts = [penalty + self.damping for penalty in self.operator.penalty]
        refuse_singular(self.operator, self.damping, map(self.denominators, range(len(shifts))), shifts)

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        is_diagonal = all(basis.left is None and basis.right is None for basis in self.operator.bases)
        return Work(tuple(diagonal_stages(counts) if is_diagonal else ekfac_stages(counts, self.tolerance)))

    def denominators(self, number: int) -> Tensor:
        """Λ + λ + δ of a block."""
        return self.operator.values[number] + self.operator.penalty[number] + self.damping

    @property
    def _inverses(self) -> Iterator[Tensor]:
        """1/(Λ + λ + δ), block after block."""
        return (1 / self.denominators(number) for number in range(len(self.operator.bases)))

    @property
    def name(self) -> str:
        """The solver in words."""
        return self.operator.name

    def with_damping(self, damping: Damping) -> EigenSolver:
        """The same Q and Λ with another δ; nothing is fitted."""
        return replace(self, damping=resolved(damping, self.operator))

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """V times the inverse."""
        vectors = checked(vectors, self.operator)
        return Solution(self.precondition(vectors), unmeasured(self.name, self.damping, vectors))

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V times the inverse, which is positive definite."""
        return self.operator.scaled(vectors, self._inverses)

    def scorer(self, queries: Gradients) -> EigenScorer:
        """∇L_qᵀ(H + δI)⁻¹∇ℓ_z of every query and every example of a batch.

        Queries are solved for in the eigenbasis. Then either they leave it, once, or the training gradients enter it,
        batch by batch: per block, whichever counts fewer multiplications. Where queries have one position, 1/(Λ+λ+δ)
        may be a short sum of outer products instead (`upweight.inverse.separable`): to the root of the precision, or,
        where the whole is long work and ``tolerance`` allows it, to a bound that keeps the order of a sample of pairs.
        """
        if self.tolerance and self._single_work(queries) > EXACT_WORK:
            sample = Sample.of(self.operator.objective, queries)
            for tolerance in (self.tolerance / 4**step for step in range(STEPS)):
                found = self._scorer(sample.queries, tolerance)
                agreement = rank_agreement(found(sample.train), sample.exact(self))
                if found.terms and agreement >= LEAST_AGREEMENT:
                    words = f"pairs by at most {found.terms} terms (Spearman {agreement:.4f} with all, on {sample})"
                    return replace(self._scorer(queries, tolerance), words=words)
        return self._scorer(queries, None)

    def _scorer(self, queries: Gradients, tolerance: float | None, *, terms: bool = True) -> EigenScorer:
        """To this tolerance of 1/(Λ+λ+δ); without ``terms`` by all its entries."""
        shapes = [basis.shape for basis in self.operator.bases]
        blocks, workspace = list(conformed(queries, shapes).blocks), Workspace()
        del queries  # block by block what is done with is let go, if the caller has
        parts, most, kept = [], 0, 1.0
        for number in range(len(blocks)):
            sides = self._sides(number, blocks[0], tolerance) if terms else None
            most = max(most, 0 if sides is None else len(sides[0]))
            part, share = self._block_scorer(number, blocks.pop(0), workspace, sides)
            parts.append(part)
            kept = min(kept, share)
        words = "" if self.query_rank is None else f"queries of rank {self.query_rank} (≥ {kept:.1%} of each kept)"
        return EigenScorer(tuple(shapes), tuple(parts), most, words)

    def _single_work(self, queries: Gradients) -> float:
        """Operations of all pairs in blocks of one position, by all entries of 1/(Λ+λ+δ)."""
        terms = [single(block) for block in queries.blocks]
        sizes = [term.shape[0] * term.shape[1] for term in terms if isinstance(term, Outer) and term.left.shape[1] == 1]
        return 2.0 * self.operator.objective.n * queries.examples * sum(sizes)

    def quadratic(self, train: Gradients) -> Float[Tensor, " n"]:
        """∇ℓ_zᵀ(H + δI)⁻¹∇ℓ_z of every example of a batch."""
        return quadratic(self.operator, self._inverses, train)

    def _block_scorer(
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
        solved = term.materialize() / self.denominators(number)
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

    def _sides(self, number: int, queries: Block, tolerance: float | None) -> tuple[Tensor, Tensor] | None:
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


def quadratic(operator: EigenOperator, inverses: Iterable[Tensor], train: Gradients) -> Float[Tensor, " n"]:
    """Σ of each gradient's squared entries in the basis over the damped eigenvalues, block by block."""
    parts = []
    blocks = conformed(train, [basis.shape for basis in operator.bases]).blocks
    for basis, block, inverse in zip(operator.bases, blocks, inverses, strict=True):
        term = basis.term(block)
        if isinstance(term, Outer) and term.left.shape[1] == 1:
            parts.append(((term.left[:, 0] ** 2 @ inverse) * term.right[:, 0] ** 2).sum(1))
        else:
            parts.append((term.materialize() ** 2 * inverse).sum((1, 2)))
    return torch.stack(parts).sum(0)


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
