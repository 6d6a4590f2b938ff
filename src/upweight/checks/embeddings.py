"""Numbers of tokens, categories or users that an embedding has no row for, where torch says "index out of range"."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from upweight.data import Batch, tensors
from upweight.losses import AnyLoss, Loss


def beyond(loss: AnyLoss, model: nn.Module, batch: Batch) -> str:
    """Whole numbers of the inputs that the model's first embedding doesn't know, in words; "" where there are none."""
    if not isinstance(loss, Loss):
        return ""
    tables = ((name, part) for name, part in model.named_modules() if isinstance(part, nn.Embedding))
    name, table = next(tables, ("", None))
    whole = [leaf for leaf in tensors(loss.inputs(batch)) if _is_whole(leaf)]
    return "" if table is None else outside(table, f"Embedding {name!r}", whole)


def outside(table: nn.Embedding | nn.EmbeddingBag, called: str, leaves: list[Tensor]) -> str:
    """The same of some tensors and one embedding."""
    ends = [(int(leaf.min()), int(leaf.max())) for leaf in leaves if leaf.numel()]
    low, high = min((low for low, _ in ends), default=0), max((high for _, high in ends), default=0)
    if low >= 0 and high < table.num_embeddings:
        return ""
    return f"inputs go from {low} to {high}, and {called} knows 0 … {table.num_embeddings - 1}"


def _is_whole(leaf: Tensor) -> bool:
    return leaf.dtype != torch.bool and not leaf.is_floating_point() and not leaf.is_complex()
