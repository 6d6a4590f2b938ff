"""How far two sets of rows agree in order."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rank_agreement(first: Float[Tensor, "k n"], second: Float[Tensor, "k n"]) -> float:
    """Mean Spearman correlation of the rows that have an order in both; 1 where none has."""
    from scipy import stats  # half a second, which scores don't need

    apart = []
    for rows in (first, second):
        ranks = torch.from_numpy(stats.rankdata(rows.cpu().numpy(), axis=1))
        apart.append(ranks - ranks.mean(dim=1, keepdim=True))
    lengths = apart[0].norm(dim=1) * apart[1].norm(dim=1)
    ordered = lengths > 0
    return float(((apart[0] * apart[1]).sum(1) / lengths)[ordered].mean()) if bool(ordered.any()) else 1.0
