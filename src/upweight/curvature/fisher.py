"""Fisher matrices as operators: sampled from the model, exact, or empirical."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature.operators import OfObjective, refuse_other_rows
from upweight.curvature.rows import Rows, empirical, sampleable, sampled, spectral
from upweight.objective import Objective


@dataclass(frozen=True)
class Fisher:
    """E[∇log p(ỹ) ∇log p(ỹ)ᵀ] over targets ỹ of the model's own distribution, mean over examples, + diag(λ).

    Parameters
    ----------
    samples
        Targets drawn for each example (default 1): an unbiased estimate. None: the expectation itself, which for the
        likelihoods of `upweight.losses` is the GGN (Martens 2020, section 9).
    seed
        Of the draws. An example's depend on it and on the example's position alone, not on the batch.
    """

    samples: int | None = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples is not None:
            scalars.whole("samples", self.samples)
        scalars.seed("seed", self.seed)

    @property
    def name(self) -> str:
        """The matrix in words."""
        return "exact Fisher" if self.samples is None else f"Fisher of {self.samples} samples"

    def rows(self, objective: Objective, largest: int | None = None) -> Rows:
        """The rows that make it."""
        if self.samples is None:
            sampleable(objective)
            return spectral(objective, largest)
        return sampled(objective, self.samples, self.seed)

    def of(self, objective: Objective) -> RowsOperator:
        """The operator for this objective."""
        kinds.check(Fisher.of, locals())
        return RowsOperator(objective, self.rows(objective), self.name)


@dataclass(frozen=True)
class EmpiricalFisher:
    """(1/n) Σ w_i ∇ℓ_i ∇ℓ_iᵀ + diag(λ) at the data's own targets (weights w_i count once). Any loss has one."""

    name = "empirical Fisher"

    def rows(self, objective: Objective, largest: int | None = None) -> Rows:
        """The gradient of every example."""
        return empirical(objective)

    def of(self, objective: Objective) -> RowsOperator:
        """The operator for this objective."""
        kinds.check(EmpiricalFisher.of, locals())
        return RowsOperator(objective, self.rows(objective), self.name)


@dataclass(frozen=True, eq=False)
class RowsOperator(OfObjective):
    """AᵀA + diag(λ) by products with its rows, which are never all materialised.

    Attributes
    ----------
    objective
        Whose penalty λ is added, and whose passes bound the blocks of rows.
    rows
        A, a row of p numbers each.
    name
        The matrix in words.
    """

    objective: Objective
    rows: Rows
    name: str

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows; one pass over the matrix's rows."""
        refuse_other_rows(vectors, self.size)
        total = self.objective.l2 * vectors
        for _, factors in self.rows.blocks(self.objective.engine.pass_rows, compacted=True):
            total = total + factors.combine(factors.inner(vectors))
        return total

    def trace(self) -> float:
        """Sum of the eigenvalues: lengths of the rows, in one pass."""
        total = float(self.objective.l2.sum(dtype=torch.float64))
        for _, factors in self.rows.blocks(self.objective.engine.pass_rows, compacted=True):
            total += float(factors.norms().sum(dtype=torch.float64))
        return total

    def dense(self) -> Float[Tensor, "p p"]:
        """The matrix itself; for small p."""
        matrix = torch.diag(self.objective.l2)
        for _, factors in self.rows.blocks(self.objective.engine.block_rows(self.size), compacted=True):
            gradients = factors.materialize()
            matrix.addmm_(gradients.T, gradients)
        return matrix
