"""Conjugate gradients on many systems at once, each with a matrix of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.linalg.rows import Apply, relative


@dataclass(frozen=True, eq=False)
class BatchSolved:
    """Solutions of A_j x_j = v_j, ‖v_j − A_j x_j‖/‖v_j‖ as the recurrence has it, and whether all are small enough."""

    x: Float[Tensor, "k p"]
    residuals: Float[Tensor, " k"]
    converged: bool


def batched_cg(
    apply: Apply,
    vectors: Float[Tensor, "k p"],
    precondition: Apply,
    tolerance: float,
    limit: int,
    start: Float[Tensor, "k p"] | None = None,
) -> BatchSolved:
    """A_j⁻¹ v_j for each row j, from ``start`` (default 0), in ``limit`` products at most.

    ``apply`` multiplies row j with A_j; the preconditioner is one for all. Each row has steps of its own, and stops
    alone at its relative residual.
    """
    x = torch.zeros_like(vectors) if start is None else start.clone()
    goal = tolerance * vectors.norm(dim=1)
    residual = vectors - apply(x) if start is not None else vectors.clone()
    z = precondition(residual)
    direction, gain = z.clone(), (residual * z).sum(1)
    for _ in range(limit):
        live = residual.norm(dim=1) > goal
        if not live.any():
            break
        product = apply(direction)
        length = torch.where(live, gain / (direction * product).sum(1), 0.0)[:, None]
        x, residual = x + length * direction, residual - length * product
        z = precondition(residual)
        fresh = (residual * z).sum(1)
        direction = z + torch.where(live, fresh / gain, 0.0)[:, None] * direction
        gain = torch.where(live, fresh, gain)
    return BatchSolved(x, relative(residual, vectors), bool((residual.norm(dim=1) <= goal).all()))
