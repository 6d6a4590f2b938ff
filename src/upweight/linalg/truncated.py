"""Matrices by their largest singular directions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

OVERSAMPLED, STEPS = 8, 2
"""Directions beyond those wanted, and steps of the power method, with which they are found."""


def truncated(
    matrices: Float[Tensor, "q r c"], rank: int
) -> tuple[Float[Tensor, "q k r"], Float[Tensor, "q k c"], Float[Tensor, " q"]]:
    """left and right with Σ_k left ⊗ right near each matrix, k = ``rank`` at most, and the share of ‖M‖² that is kept.

    By a random range with `STEPS` of the power method (Halko, Martinsson & Tropp 2011, algorithm 4.4), the same numbers
    for the same shapes.
    """
    rows, columns = matrices.shape[1:]
    wide = min(rank + OVERSAMPLED, rows, columns)
    generator = torch.Generator().manual_seed(rows * columns)
    drawn = torch.randn(columns, wide, generator=generator, dtype=torch.float64).to(matrices)
    span = torch.linalg.qr(matrices @ drawn).Q
    for _ in range(STEPS):
        span = torch.linalg.qr(matrices @ torch.linalg.qr(matrices.mT @ span).Q).Q
    turn, values, right = torch.linalg.svd(span.mT @ matrices, full_matrices=False)
    left = (span @ turn[:, :, :rank]).mT * values[:, :rank, None]
    squares = matrices.square().sum((1, 2))
    kept = values[:, :rank].square().sum(1) / torch.where(squares > 0, squares, 1.0)
    return left, right[:, :rank], torch.where(squares > 0, kept.clamp_max(1.0), 1.0)
