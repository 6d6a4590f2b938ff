"""Operations of torch whose derivatives fail or are wrong, in a form that is right, while a model is called.

- Embeddings take their padding for constant in first derivatives, but not in second; sparse gradients have no views.
- Bags of embeddings and hard sigmoids have no second derivative; the first one of a hard sigmoid is right to single
  precision only.
- ``torch._weight_norm`` takes the norm for constant in second derivatives (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

EMBEDDING = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
BAG = (
    *("input", "weight", "offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse"),
    *("per_sample_weights", "include_last_offset", "padding_idx"),
)


def rewritten(model: nn.Module, *, twice: bool) -> Callable[[], AbstractContextManager[Any]]:
    """What a model is to be called in: nothing where it holds none of these operations."""
    embeddings = [part for part in model.modules() if isinstance(part, nn.Embedding)]
    bags = [part for part in model.modules() if isinstance(part, nn.EmbeddingBag)]
    sparse = any(part.sparse for part in (*embeddings, *bags))
    padded = twice and any(part.padding_idx is not None for part in embeddings)
    normed = twice and any(_is_weight_normed(part) for part in model.modules())
    hard = any(isinstance(part, nn.Hardsigmoid) for part in model.modules())
    if not (sparse or padded or normed or hard or (twice and bags)):
        return nullcontext
    return lambda: _Rewritten(twice)


def _is_weight_normed(part: nn.Module) -> bool:
    hooks = getattr(part, "_forward_pre_hooks", {}).values()
    return type(part).__name__ == "_WeightNorm" or any(type(hook).__name__ == "WeightNorm" for hook in hooks)


class _Rewritten(TorchFunctionMode):
    """Calls of the operations above go to their other forms."""

    def __init__(self, twice: bool):
        super().__init__()
        self.twice = twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.embedding:
            return _embedding(dict(zip(EMBEDDING, args, strict=False)) | kwargs, self.twice)
        if func is F.embedding_bag:
            given = dict(zip(BAG, args, strict=False)) | kwargs | _DENSE
            return embedding_bag(**given) if self.twice and given.get("mode") != "max" else F.embedding_bag(**given)
        if func is F.hardsigmoid:
            return (args[0] / 6 + 0.5).clamp(0, 1)
        if func is torch._weight_norm and self.twice:
            return weight_norm(*args, **kwargs)
        return func(*args, **kwargs)


_DENSE = {"sparse": False}


def _embedding(given: dict[str, Any], twice: bool) -> Tensor:
    given |= _DENSE
    padding = given.get("padding_idx")
    if padding is None or not twice:
        return F.embedding(**given)
    out = F.embedding(**given | {"padding_idx": None})
    constant = given["input"] == padding % given["weight"].shape[0]
    return torch.where(constant.unsqueeze(-1), out.detach(), out)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """`torch.nn.functional.embedding_bag` by lookups and sums; means leave padding out, an empty bag is 0."""
    if input.dim() == 2:
        bags, length = input.shape
        whose = torch.arange(bags, device=input.device).repeat_interleave(length)
    else:
        assert offsets is not None
        starts = offsets[:-1] if include_last_offset else offsets
        bags = len(starts)
        whose = torch.searchsorted(starts, torch.arange(len(input), device=input.device), right=True) - 1
    flat = input.reshape(-1)
    kept = torch.ones_like(flat, dtype=torch.bool) if padding_idx is None else flat != padding_idx % len(weight)
    rows = F.embedding(flat, weight, max_norm=max_norm, norm_type=norm_type) * kept[:, None]
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    total = rows.new_zeros(bags, weight.shape[1]).index_add(0, whose, rows)
    if mode == "sum":
        return total
    counts = rows.new_zeros(bags).index_add(0, whose, kept.to(rows))
    return total / counts.clamp_min(1)[:, None]


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g·v/‖v‖, the norm over all dimensions but ``dim`` (−1: over all)."""
    others = [d for d in range(v.dim()) if dim == -1 or d != dim % v.dim()]
    return v * (g / (v * v).sum(others, keepdim=True).sqrt())
