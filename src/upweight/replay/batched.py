"""GELU with derivatives that torch batches: its own are taken for one query after the other (torch 2.13)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Batched(TorchFunctionMode):
    """Within, calls of GELU have the derivatives below: first and second ones are functions of the input alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(zip(("input", "approximate"), args, strict=False)) | (kwargs or {})
        if func is F.gelu and given.get("approximate", "none") == "none":
            return _Value.apply(given["input"])
        return func(*args, **(kwargs or {}))


class _Value(torch.autograd.Function):
    """x Φ(x)."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        (x,) = ctx.saved_tensors
        return slopes[0] * _Slope.apply(x)


class _Slope(torch.autograd.Function):
    """Φ(x) + x φ(x), whose own slope is φ(x)(2 − x²)."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        ctx.save_for_backward(x)
        return torch.special.ndtr(x).addcmul_(x, _density(x))

    @staticmethod
    def backward(ctx: Any, *slopes: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        (x,) = ctx.saved_tensors
        return slopes[0] * (_density(x) * (2 - x**2))


def _density(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    return torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
