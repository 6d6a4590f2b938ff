"""Many tops at once, each trained on the data with a few examples replaced, and the inverse of each one's Hessian.

Top j is at its own optimum θ_j; its Hessian H_j = (1/n) Σ w_i Λ_i(θ_j) ⊗ a_i a_iᵀ + diag(λ) differs from the trained
one's in the replaced rows and, a little, in every Λ. All products with all H_j share one matrix product with the
features, and the trained factor preconditions them, so a handful serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.curvature import Operator
from upweight.data import Batch
from upweight.errors import NotConvergedWarning, warn
from upweight.gradients import LinearFunction
from upweight.inverse import Solution, Solver, precondition
from upweight.inverse.damping import Damping
from upweight.linalg.batched_cg import batched_cg
from upweight.objective import Objective

TOLERANCE = 1e-5
"""Relative residual of the solves: signs are taken of what follows from them."""
MOST_PRODUCTS = 300
LARGEST = 8192
"""p up to which the inverse is made as a matrix (512 MiB in float64)."""


@dataclass(frozen=True, eq=False)
class RetrainedHessians:
    """H_j of k tops as one operator on k vectors.

    Attributes
    ----------
    features
        Inputs a_i of the linear layer, unchanged, ``[n, d]``.
    curvatures
        w_i Λ_i(θ_j), zero where example i is replaced in j, ``[k, n, c, c]``.
    new_features, new_curvatures
        Of the examples in their places, ``[k, r, d]`` and ``[k, r, c, c]``.
    """

    objective: Objective
    function: LinearFunction
    features: Float[Tensor, "n d"]
    curvatures: Float[Tensor, "k n c c"]
    new_features: Float[Tensor, "k r d"]
    new_curvatures: Float[Tensor, "k r c c"]

    def product(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """H_j v_j for each j."""
        matrices = self.function.matrix(vectors)
        k, outputs, _ = matrices.shape
        pushed = (self.features @ matrices.flatten(0, 1).T).reshape(-1, k, outputs)
        curved = torch.einsum("knab,nkb->nka", self.curvatures, pushed)
        total = (curved.flatten(1).T @ self.features).reshape(matrices.shape)
        moved = torch.einsum("krab,krb->kra", self.new_curvatures, self.new_features @ matrices.mT)
        total = total + moved.mT @ self.new_features
        return self.function.vector(total) / self.objective.n + self.objective.l2 * vectors


def retrained_hessians(
    objective: Objective,
    params: Float[Tensor, "k p"],
    positions: Sequence[Int[Tensor, " r"]],
    examples: Sequence[Batch],
) -> RetrainedHessians:
    """H_j at θ_j on the data in which ``examples[j]`` stand at ``positions[j]``, as many for every j."""
    function = objective.engine.function.linear
    assert function is not None
    _, whole = next(iter(objective.data.batches(None, objective.n)))  # of arrays a view, not a copy
    kept, new_features, new_curvatures = [], [], []
    for theta, place, batch in zip(params, positions, examples, strict=True):
        features, _, curvature = function.output_curvature(theta, whole)
        weighted = curvature.weighted(objective.weights).whole()
        weighted[place] = 0
        kept.append(weighted)
        moved, _, changed = function.output_curvature(theta, batch)
        new_features.append(moved)
        new_curvatures.append(changed.weighted(objective.weights[place]).whole())
    stacked = (torch.stack(parts) for parts in (kept, new_features, new_curvatures))
    return RetrainedHessians(objective, function, features, *stacked)


def solve(
    hessians: RetrainedHessians,
    vectors: Float[Tensor, "k p"],
    solver: Solver,
    start: Float[Tensor, "k p"] | None = None,
    tolerance: float = TOLERANCE,
) -> Float[Tensor, "k p"]:
    """H_j⁻¹ v_j for each j, by conjugate gradients on all at once with one preconditioner, from ``start``.

    Each has steps of its own, and stops alone at its relative residual.
    """
    found = batched_cg(
        hessians.product, vectors, lambda rows: precondition(solver, rows), tolerance, MOST_PRODUCTS, start
    )
    if not found.converged:
        worst = float(found.residuals.max())
        warn(
            f"attack: solves with the changed Hessians stopped at relative residual {worst:.1e}, above "
            f"{tolerance:.0e}; use float64, or a larger l2 of the top",
            NotConvergedWarning,
        )
    return found.x


@dataclass(frozen=True, eq=False)
class Inverted:
    """A fitted inverse as a matrix: one product in place of two triangular solves."""

    operator: Operator
    damping: float
    inverse: Float[Tensor, "p p"]
    solver: Solver

    def precondition(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """V (H+δI)⁻¹."""
        return vectors @ self.inverse

    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """As the solver it was made of."""
        return self.solver.solve(vectors)

    def with_damping(self, damping: Damping) -> Solver:
        """As the solver it was made of."""
        return self.solver.with_damping(damping)


def inverted(solver: Solver) -> Solver:
    """The inverse as a matrix where it fits the memory; else the solver itself."""
    operator = solver.operator
    if operator.size > LARGEST:
        return solver
    found = solver.solve(torch.eye(operator.size, dtype=operator.dtype, device=operator.device)).x
    return Inverted(operator, solver.damping, (found + found.T) / 2, solver)


def unit_rows(rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
    """Rows of length 1, however small they are."""
    return torch.nn.functional.normalize(rows, dim=1, eps=torch.finfo(rows.dtype).tiny)
