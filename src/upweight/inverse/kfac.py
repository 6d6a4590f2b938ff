"""K-FAC: every layer's curvature as a Kronecker product of two small matrices (Martens & Grosse 2015)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import Fisher, Operator, RowCurvature, Rows
from upweight.curvature.eigenbasis import Basis, EigenOperator
from upweight.curvature.kronecker import Approximation, Inputs, kronecker_factors
from upweight.gradients import Block, Gradients
from upweight.gradients.blocks import Scorer, Seen, conformed, unseen
from upweight.gradients.terms import Direct, Lookup, Outer, Term
from upweight.inverse.costs import Counts, Work
from upweight.inverse.damping import Damping
from upweight.inverse.eigenbasis import (
    EigenSolver,
    eigenbases,
    quadratic,
    refuse_singular,
    resolved,
    rows_of,
)
from upweight.inverse.interface import Solution, checked, unmeasured
from upweight.inverse.layer_costs import kfac_stages
from upweight.objective import Objective

DampingRule = Literal["factored", "eigenvalue"]


@dataclass(frozen=True)
class KFAC:
    """G ⊗ A per layer, from one pass over the rows.

    Parameters
    ----------
    curvature
        ``Fisher(samples, seed)``, ``EmpiricalFisher()`` or ``GGN()``.
    damping
        δ.
    approximation
        For layers that share their weights over positions: ``expand`` takes positions for independent, ``reduce``
        sums over them first (see `upweight.curvature.kronecker`).
    damping_rule
        ``factored``: (G + √δ/π I) ⊗ (A + π√δ I) with π² the ratio of the mean eigenvalues of A and G (Martens & Grosse
        2015, section 6.3). It adds more than δ, but a query of one position stays a product of two vectors, so that a
        pair of query and example costs in + out. ``eigenvalue``: δ is added to the eigenvalues of G ⊗ A.
    inputs
        For the same layers: the mean over inputs counts positions with a gradient (``active``), or ``all``, as
        curvlinops does; then padding counts too, and scores depend on how batches are padded.

        Relative distance ‖approximation − GGN‖/‖GGN‖ of a layer's block, measured on three small networks of digits:
        ``reduce`` .05 to .81, ``expand`` .21 to 2.7, ``reduce`` nearer in 10 of 12 layers shared over positions;
        ``active`` or ``all`` makes 1 to 18 % of it, with no rule which is nearer. EK-FAC's is .05 to .73 by any.

    Raises
    ------
    InputError
        If a gradient is NaN, with its training example; if a damped factor is singular.
    """

    curvature: RowCurvature = field(default_factory=Fisher)
    _: KW_ONLY
    damping: Damping = "auto"
    approximation: Approximation = "expand"
    damping_rule: DampingRule = "factored"
    inputs: Inputs = "active"

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        for name, options in (("approximation", Approximation), ("inputs", Inputs), ("damping_rule", DampingRule)):
            scalars.one_of(name, getattr(self, name), get_args(options))

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(kfac_stages(counts, by_factors=self.damping_rule == "factored")))

    def fit(self, target: Objective | Operator) -> EigenSolver | FactoredSolver:
        """Gradients from one pass over the rows, and their eigenvectors."""
        rows = rows_of(target, self.curvature, "KFAC")
        dtype = rows.objective.dtype
        return self.solver(rows, list(eigenbases(kronecker_factors(rows, self.approximation, self.inputs), dtype)))

    def solver(self, rows: Rows, parts: list[tuple[Basis, Tensor, Tensor]]) -> EigenSolver | FactoredSolver:
        """The inverse of what was fitted: the basis of every block with the eigenvalues of its two sides."""
        bases, sides = tuple(basis for basis, _, _ in parts), tuple((left, right) for _, left, right in parts)
        values = tuple(torch.outer(left, right) for left, right in sides)
        name = f"K-FAC ({self.approximation}) of the {rows.name}"
        operator = EigenOperator(rows.objective, bases, values, name, penalties=rows.l2)
        if self.damping_rule == "eigenvalue":
            return replace(EigenSolver.of(operator, self.damping), own_pass=False)
        return FactoredSolver(operator, resolved(self.damping, operator), sides)


@dataclass(frozen=True, eq=False)
class FactoredSolver:
    """(G + √δ'/π I)⁻¹ ⊗ (A + π√δ' I)⁻¹ of every block, δ' = δ + the mean l2 of the block.

    Attributes
    ----------
    operator
        The approximation G ⊗ A of every block, with the penalty.
    sides
        Eigenvalues of both sides of every block.
    """

    operator: EigenOperator
    damping: float
    sides: tuple[tuple[Tensor, Tensor], ...]

    def work(self, counts: Counts, *, timed: bool = True) -> Work:
        """See `upweight.inverse.costs.Costed`."""
        return Work(tuple(kfac_stages(counts, by_factors=True)))

    def __post_init__(self) -> None:
        damped = [torch.outer(*sides) for sides in self.damped]
        refuse_singular(self.operator, self.damping, damped, self._shifts)

    @cached_property
    def _shifts(self) -> list[float]:
        return [float(penalty.mean()) + self.damping for penalty in self.operator.penalty]

    @cached_property
    def damped(self) -> list[tuple[Tensor, Tensor]]:
        """Damped eigenvalues of both sides."""
        return [factored_damping(*sides, shift) for sides, shift in zip(self.sides, self._shifts, strict=True)]

    @property
    def name(self) -> str:
        """The solver in words."""
        return f"{self.operator.name}, factored damping"

    def with_damping(self, damping: Damping) -> FactoredSolver:
        """The same factors with another δ; nothing is fitted."""
        return replace(self, damping=resolved(damping, self.operator))

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """V times the inverse; how far that is from the damped curvature itself is not measured."""
        vectors = checked(vectors, self.operator)
        return Solution(self.precondition(vectors), unmeasured(self.name, self.damping, vectors))

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V times the inverse, which is positive definite."""
        return self.operator.scaled(vectors, [1 / torch.outer(*sides) for sides in self.damped])

    @cached_property
    def inverses(self) -> list[tuple[Tensor, Tensor]]:
        """The two inverse matrices of every block, or their diagonals."""
        found = []
        for basis, (left, right) in zip(self.operator.bases, self.damped, strict=True):
            found.append((_inverse(basis.left, left), _inverse(basis.right, right)))
        return found

    def scorer(self, queries: Gradients) -> Scorer:
        """∇L_qᵀ(H + δI)⁻¹∇ℓ_z of every query and every example of a batch, by the factors of both."""
        shapes = [basis.shape for basis in self.operator.bases]
        queries = conformed(queries, shapes)
        triples = zip(self.operator.bases, queries.blocks, self.inverses, strict=True)
        solved = replace(queries, blocks=tuple(_solved(*triple) for triple in triples))

        def scores(train: Gradients, seen: Seen = unseen) -> Tensor:
            return solved.gram(conformed(train.shown(seen), shapes))

        return scores

    def quadratic(self, train: Gradients) -> Float[Tensor, " n"]:
        """∇ℓ_zᵀ(H + δI)⁻¹∇ℓ_z of every example of a batch."""
        return quadratic(self.operator, [1 / torch.outer(*sides) for sides in self.damped], train)


def factored_damping(
    left: Float[Tensor, " r"], right: Float[Tensor, " c"], damping: float
) -> tuple[Float[Tensor, " r"], Float[Tensor, " c"]]:
    """left + √δ/π and right + π√δ, π² = mean(right)/mean(left).

    Where a side is a single number the damped matrix is a Kronecker product itself, and δ is added exactly.
    """
    if len(left) == 1:
        return torch.ones_like(left), left * right + damping
    if len(right) == 1:
        return left * right + damping, torch.ones_like(right)
    means = float(left.mean()), float(right.mean())
    ratio = (means[1] / means[0]) ** 0.5 if min(means) > 0 else 1.0
    root = damping**0.5
    return left + root / ratio, right + root * ratio


def _inverse(vectors: Tensor | None, values: Tensor) -> Tensor:
    return 1 / values if vectors is None else (vectors / values) @ vectors.T


def _solved(basis: Basis, block: Block, inverses: tuple[Tensor, Tensor]) -> Block:
    """The gradients times the inverse, in the form they have."""
    return replace(block, terms=tuple(_solved_term(basis, term, *inverses) for term in block.terms))


def _solved_term(basis: Basis, term: Term, left: Tensor, right: Tensor) -> Term:
    if isinstance(term, Outer) and not basis.flat:
        return Outer(_product(term.left, left), _product(term.right, right))
    if isinstance(term, Lookup) and left.dim() == 1 and not basis.flat:
        return Lookup(term.index, _product(term.right * left[term.index][:, :, None], right), term.rows)
    values = term.materialize()
    if basis.flat:
        return Direct(_product(values.flatten(1), right * left).reshape(values.shape))
    return Direct(_product(_product(values, right).mT, left).mT)


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Rows times a symmetric matrix, or a diagonal one."""
    return rows * matrix if matrix.dim() == 1 else rows @ matrix
