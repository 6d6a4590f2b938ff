"""How far two sets of rows agree in order."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def rank_agreement(first: Float[Tensor, "k n"], second: Float[Tensor, "k n"]) -> float:
    """Mean Spearman correlation of rows, ties in the order in which they stand; 1 where there is nothing to order."""
    if not first.numel() or first.shape[1] < 2:
        return 1.0
    orders = [rows.argsort(dim=1, stable=True).argsort(dim=1).double() for rows in (first, second)]
    apart = [order - order.mean(dim=1, keepdim=True) for order in orders]
    products = (apart[0] * apart[1]).sum(1) / (apart[0].norm(dim=1) * apart[1].norm(dim=1))
    return float(products.mean())
