"""Curvature in the coordinates φ = P^½θ of a metric P, in which an optimiser's steps P⁻¹g are those of plain descent.

There gradients are P^{-½}g, the curvature is P^{-½}HP^{-½}, and damping by δ stands for δP: (P^{-½}HP^{-½} + δI)⁻¹
between gradients in φ is (H + δP)⁻¹ between those in θ. (Bae et al. 2024, SOURCE, appendix C, where P is the inverse of
this one.)

Products with a matrix take any P. Where matrices are made of gradients by layers (K-FAC, EK-FAC), a layer's gradient
Σ_t g_t a_tᵀ has to stay one: there P is taken as an outer product of a row and a column for each layer, by which g and
a are divided. Of √v̂ + ε it is the one whose square has the row and column sums of P² (Shazeer & Stern 2018, Adafactor,
whose memory of Adam's v̂ this is). Embeddings, and what isn't a product (norms, plain parameters), have their own P.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature.objective import Curvature, RowCurvature
from upweight.curvature.operators import OfObjective, Operator, refuse_other_rows
from upweight.curvature.rows import Rows
from upweight.gradients import Block, Gradients, Shape
from upweight.gradients.blocks import conformed
from upweight.gradients.terms import Direct, Lookup, Outer, Term
from upweight.objective import Objective


@dataclass(frozen=True, eq=False)
class Sides:
    """P^{-½} of a block as an outer product."""

    left: Float[Tensor, " r"]
    right: Float[Tensor, " c"]

    def matrix(self) -> Float[Tensor, "r c"]:
        """Itself."""
        return torch.outer(self.left, self.right)

    def term(self, term: Term) -> Term:
        """A term of the block's gradients, every entry multiplied."""
        if isinstance(term, Outer):
            return Outer(term.left * self.left, term.right * self.right)
        if isinstance(term, Lookup):
            return replace(term, right=term.right * self.right * self.left[term.index][:, :, None])
        return Direct(term.values * self.matrix())


@dataclass(frozen=True, eq=False)
class Whole:
    """P^{-½} of a block, entry by entry."""

    values: Float[Tensor, "r c"]

    def matrix(self) -> Float[Tensor, "r c"]:
        """Itself."""
        return self.values

    def term(self, term: Term) -> Term:
        """A term of the block's gradients, every entry multiplied."""
        if isinstance(term, Lookup):
            return replace(term, right=term.right * self.values[term.index])
        return Direct(term.materialize() * self.values)


@dataclass(frozen=True, eq=False)
class Scaling:
    """P^{-½} of every block of an objective's gradients.

    Attributes
    ----------
    error
        Relative error of P^½ by its outer products, a root mean square weighed by P²; 0 where there are none.
    """

    objective: Objective
    parts: Mapping[Shape, Sides | Whole]
    error: float

    @classmethod
    def of(cls, objective: Objective, metric: Float[Tensor, " p"]) -> Scaling:
        """By the form that the first gradients have."""
        batch = objective.data.take(torch.arange(min(2, objective.n)))
        first = objective.engine.function.each(objective.params, batch, compacted=False)
        parts, wrong, total = dict[Shape, Sides | Whole](), 0.0, 0.0
        for block, (matrix,) in zip(first.blocks, first.matrices(metric[None]), strict=True):
            if not all(isinstance(term, Outer) for term in block.terms):
                parts[block.shape] = Whole(matrix.rsqrt())
                continue
            found = _outer(matrix)
            off = (found.matrix().double() * matrix.double().sqrt()).log()
            squares = matrix.double() ** 2
            wrong, total = wrong + float((squares * off**2).sum()), total + float(squares.sum())
            parts[block.shape] = found
        return cls(objective, parts, (wrong / total) ** 0.5 if total else 0.0)

    @property
    def vector(self) -> Float[Tensor, " p"]:
        """P^{-½}, as it is taken."""
        frame = Gradients(self.objective.layout, tuple(Block(shape, ()) for shape in self.parts), 0)
        return frame.vectors([part.matrix()[None] for part in self.parts.values()])[0]

    def gradients(self, given: Gradients) -> Gradients:
        """Gradients in φ, in the form that they have."""
        blocks = conformed(given, list(self.parts)).blocks
        scaled = [
            replace(block, terms=tuple(self.parts[block.shape].term(term) for term in block.terms)) for block in blocks
        ]
        return replace(given, blocks=tuple(scaled))


def _outer(metric: Float[Tensor, "r c"]) -> Sides:
    squares = metric.double() ** 2
    left, right = (squares.sum(1), squares.sum(0) / squares.sum())
    return Sides(*(side.pow(-0.25).to(metric) for side in (left, right)))


@dataclass(frozen=True, eq=False)
class ScaledRows(Rows):
    """Rows in φ."""

    scaling: Scaling | None = None

    def factors(self, chosen: Tensor, *, compacted: bool = False) -> Gradients:
        """See `Rows`."""
        assert self.scaling is not None
        found = self.scaling.gradients(super().factors(chosen))
        return found.compact() if compacted else found

    @property
    def l2(self) -> Float[Tensor, " p"]:
        """λ in φ."""
        assert self.scaling is not None
        return self.objective.l2 * self.scaling.vector**2


@dataclass(frozen=True, eq=False)
class ScaledOperator(OfObjective):
    """P^{-½}HP^{-½} by products with H."""

    objective: Objective
    inner: Operator
    scale: Float[Tensor, " p"]
    name: str

    @property
    def l2(self) -> Float[Tensor, " p"]:
        """λ in φ."""
        return self.objective.l2 * self.scale**2

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows."""
        refuse_other_rows(vectors, self.size)
        return self.inner.apply(vectors * self.scale) * self.scale

    def dense(self) -> Float[Tensor, "p p"]:
        """The matrix itself; for small p."""
        return self.inner.dense() * self.scale * self.scale[:, None]


@dataclass(frozen=True, eq=False)
class InMetric:
    """A curvature in φ, for one objective.

    Attributes
    ----------
    scale
        P^{-½}, as products take it.
    scaling
        The same, as gradients by layers take it.
    """

    inner: Curvature
    scale: Float[Tensor, " p"]
    scaling: Scaling | None

    @property
    def name(self) -> str:
        """The matrix in words."""
        return f"{self.inner.name} in the optimiser's metric"

    def of(self, objective: Objective) -> ScaledOperator:
        """The operator for this objective."""
        return ScaledOperator(objective, self.inner.of(objective), self.scale, self.name)

    def rows(self, objective: Objective, largest: int | None = None) -> ScaledRows:
        """The rows that make it."""
        assert isinstance(self.inner, RowCurvature)
        found = self.inner.rows(objective, largest)
        own = {each.name: getattr(found, each.name) for each in fields(Rows)}
        return ScaledRows(**{**own, "name": f"{found.name} in the optimiser's metric"}, scaling=self.scaling)
