"""Operations of torch whose derivatives fail or are wrong, in a form that is right, while a model is called.

- Embeddings take their padding for constant in first derivatives, but not in second; sparse gradients have no views,
  and those scaled by frequency (``scale_grad_by_freq``) are no gradients, and depend on the batch.
- Embeddings with ``max_norm`` rescale the rows of the table itself; here those that were looked up are, with the same
  gradient, as if the rescaled rows had been given.
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
    """What a model is to be called in: nothing where it holds none of these operations.

    Modules that aren't torch's own may call them as functions.
    """
    embeddings = [part for part in model.modules() if isinstance(part, nn.Embedding)]
    bags = [part for part in model.modules() if isinstance(part, nn.EmbeddingBag)]
    sparse = any(part.sparse or part.scale_grad_by_freq for part in (*embeddings, *bags))
    padded = twice and any(part.padding_idx is not None for part in embeddings)
    normed = twice and any(_is_weight_normed(part) for part in model.modules())
    hard = any(isinstance(part, nn.Hardsigmoid) for part in model.modules())
    limited = any(part.max_norm is not None for part in (*embeddings, *bags))
    own = any(not type(part).__module__.startswith("torch.") for part in model.modules())
    if not (own or sparse or padded or limited or normed or hard or (twice and bags)):
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
            limit, kind = given.pop("max_norm", None), given.pop("norm_type", 2.0)
            if limit is not None:
                given["weight"] = _rescaled(given["weight"], given["input"], limit, kind)
            return embedding_bag(**given) if self.twice and given.get("mode") != "max" else F.embedding_bag(**given)
        if func is F.hardsigmoid:
            return (args[0] / 6 + 0.5).clamp(0, 1)
        if func is torch._weight_norm and self.twice:
            return weight_norm(*args, **kwargs)
        return func(*args, **kwargs)


_DENSE = {"sparse": False, "scale_grad_by_freq": False}


def _embedding(given: dict[str, Any], twice: bool) -> Tensor:
    given |= _DENSE
    padding = given.pop("padding_idx", None) if twice else None
    limit, kind = given.pop("max_norm", None), given.pop("norm_type", 2.0)
    out = F.embedding(**given)
    if limit is not None:
        norms = out.detach().norm(kind, dim=-1, keepdim=True)
        factor = torch.where(norms > limit, limit / (norms + 1e-7), 1.0)  # torch's own
        out = out + out.detach() * (factor - 1)
    if padding is None:
        return out
    constant = given["input"] == padding % given["weight"].shape[0]
    return torch.where(constant.unsqueeze(-1), out.detach(), out)


def _rescaled(table: Tensor, index: Tensor, limit: float, kind: float) -> Tensor:
    """A copy of a table in which rows that are looked up are no longer than ``limit``, with the table's gradient."""
    copied = table.clone()
    with torch.no_grad():
        torch.embedding_renorm_(copied.detach(), index.contiguous(), limit, kind)
    return copied


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
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
    rows = F.embedding(flat, weight) * kept[:, None]
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
