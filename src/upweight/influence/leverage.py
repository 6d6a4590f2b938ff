"""Removal with the example's own curvature taken out: (H − H_i/n)⁻¹ in place of H⁻¹.

With J_i the Jacobian of the outputs, Λ_i and r_i the Hessian and gradient of the loss in them, Woodbury gives
(H − J_iᵀΛ_iJ_i/n)⁻¹J_iᵀ r_i = H⁻¹J_iᵀ (I − Λ_i M_i)⁻¹ r_i with M_i = J_i H⁻¹ J_iᵀ/n, a matrix of the size of the
outputs. Exact for squared error; one Newton step for GLMs (spec: rescaled influence, influence/(1−h_i)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.inverse import Solution
from upweight.objective import Objective
from upweight.progress import track

Solve = Callable[[Tensor], Solution]
"""(H+δI)⁻¹ of vectors as rows."""


def removal(
    objective: Objective, solve: Solve, directions: Float[Tensor, "queries p"], positions: Tensor | None
) -> Float[Tensor, "queries train"]:
    """Predicted change of each query's measurement, ``directions`` being s_q = (H+δI)⁻¹∇L_q."""
    parts = [
        torch.einsum("bcp,qp,bc->qb", jacobian, directions, slope)
        for jacobian, _, slope, _ in _corrected(objective, solve, positions)
    ]
    return torch.cat(parts, dim=1) / objective.n


def self_removal(objective: Objective, solve: Solve, positions: Tensor | None) -> Float[Tensor, " train"]:
    """Predicted change of each example's own loss."""
    parts = [
        torch.einsum("bcp,bdp,bd,bc->b", jacobian, solved, slope, raw)
        for jacobian, solved, slope, raw in _corrected(objective, solve, positions)
    ]
    return torch.cat(parts) / objective.n


def output_changes(objective: Objective, solve: Solve, positions: Tensor | None = None) -> Float[Tensor, "train c"]:
    """Predicted change of each example's own (flattened) outputs if it were left out of training."""
    parts = [
        torch.einsum("bcp,bdp,bd->bc", jacobian, solved, slope)
        for jacobian, solved, slope, _ in _corrected(objective, solve, positions)
    ]
    return torch.cat(parts) / objective.n


def leverages(objective: Objective, solve: Solve, positions: Tensor | None = None) -> Float[Tensor, " train"]:
    """The share of the curvature that each example holds: the largest eigenvalue of wΛM, h of a model of one output."""
    parts = [torch.linalg.eigvals(inner).real.amax(-1) for _, (*_, inner) in _blocks(objective, solve, positions)]
    return torch.cat(parts)


def _corrected(
    objective: Objective, solve: Solve, positions: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Jacobians, solved Jacobians, corrected weighted slopes (I − ΛM)⁻¹ w r, and raw slopes r."""
    for index, (jacobian, solved, slope, inner) in _blocks(objective, solve, positions):
        units = torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
        weighted = objective.weights[index, None] * slope
        yield jacobian, solved, torch.linalg.solve(units - inner, weighted.unsqueeze(-1)).squeeze(-1), slope


def _blocks(
    objective: Objective, solve: Solve, positions: Tensor | None
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """Positions with J [b, c, p], JH⁻¹ [b, c, p], slopes [b, c] and wΛM [b, c, c], in blocks of bounded size."""
    width = objective.outputs(objective.data.take([0])).numel()
    size = objective.block_rows(2 * objective.p * width)
    total = objective.n if positions is None else len(positions)
    batches = objective.data.batches(positions, size)
    for index, batch in track(batches, "leverages", total=-(-total // size)):
        jacobian, slope, curvature = objective.function.output_factors(objective.params, batch)
        flat = jacobian.flatten(0, 1)
        solved = solve(flat).x.reshape(jacobian.shape)
        inner = torch.einsum("bcp,bdp->bcd", jacobian, solved) / objective.n
        weighted = objective.weights[index, None, None] * curvature
        yield index, (jacobian, solved, slope, weighted @ inner)
