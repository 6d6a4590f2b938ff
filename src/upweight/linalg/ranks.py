"""How far two sets of rows agree in order."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def ranks(rows: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """Places 1 to n of each row's numbers in ascending order, equal ones at the mean of theirs; float64.

    A row with a NaN has no order: its ranks are NaN.
    """
    rows = rows.contiguous()
    ordered = rows.sort(dim=1).values
    found = (torch.searchsorted(ordered, rows) + torch.searchsorted(ordered, rows, right=True) + 1).double() / 2
    return found.masked_fill(torch.isnan(rows).any(1, keepdim=True), torch.nan)


def rank_agreement(first: Float[Tensor, "k n"], second: Float[Tensor, "k n"]) -> float:
    """Mean Spearman correlation of the rows that have an order in both; 1 where none has."""
    apart = []
    for rows in (first, second):
        found = ranks(rows.cpu())
        apart.append(found - found.mean(dim=1, keepdim=True))
    lengths = apart[0].norm(dim=1) * apart[1].norm(dim=1)
    ordered = lengths > 0
    return float(((apart[0] * apart[1]).sum(1) / lengths)[ordered].mean()) if bool(ordered.any()) else 1.0
