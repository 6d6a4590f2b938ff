"""What the algorithms share: vectors as rows ``[k, p]``, products with them, and a look at long loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Apply = Callable[[Tensor], Tensor]
"""The product of a matrix with k vectors, given and returned as rows."""
Watch = Callable[[Iterable[int], Sequence[float], float], Iterable[int]]
"""Walks through the steps of a loop: ``watch(steps, history, target)``. The history grows as the loop goes on (it stays
empty where a loop has no residual), and the target is what its last entry is to reach."""


def unwatched(steps: Iterable[int], history: Sequence[float], target: float) -> Iterable[int]:
    """The steps themselves."""
    return steps


def relative(residual: Float[Tensor, "k p"], vectors: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
    """‖residual‖/‖v‖ by row; 0 where v = 0."""
    norms = vectors.norm(dim=1)
    return torch.where(norms > 0, residual.norm(dim=1) / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0.0)


def smallest_quotient(x: Float[Tensor, "k p"], product: Float[Tensor, "k p"]) -> float:
    """Smallest Rayleigh quotient xᵀAx/xᵀx over rows, inf if all rows are zero."""
    squares = (x * x).sum(1)
    quotients = (x * product).sum(1)[squares > 0] / squares[squares > 0]
    return float(quotients.min()) if len(quotients) else float("inf")


def orthogonal(row: Float[Tensor, " p"], basis: Float[Tensor, "k p"]) -> Float[Tensor, " p"]:
    """What is left of a row off orthonormal others: twice is enough (Parlett 1980, section 6.9)."""
    for _ in range(2):
        row = row - (row @ basis.T) @ basis
    return row
