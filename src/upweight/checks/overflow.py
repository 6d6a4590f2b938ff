"""Where a model that runs in 16 bits leaves their range: the first layer whose output or its gradient isn't finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from upweight.data import Batch
from upweight.forward import half_of, words
from upweight.gradients.substituted import substituted
from upweight.problem import Problem


def overflow(problem: Problem, batch: Batch, function: Any = None) -> str:
    """In words, of a function of (model, batch), by default the loss; "" where it is none, or the model is float32."""
    half, found = half_of(problem.model), list[str]()
    if half is None:
        return ""
    handles = [
        part.register_forward_hook(_noting(name or "the model", found))
        for name, part in problem.model.named_modules()
        if not isinstance(part, torch.jit.ScriptModule)
    ]
    try:
        with torch.enable_grad():
            leaves = {name: value.requires_grad_() for name, value in problem.called_with.items()}
            values = substituted(problem.model, function or problem.loss, twice=False)(leaves, batch)
            if not found:
                torch.autograd.grad(values.sum(), list(leaves.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        return ""
    return (
        f"; {found[0]} is beyond {torch.finfo(half).max:.3g}, what {words(half)} holds: give forward='float32' to the "
        "objective, or a model in bfloat16"
    )


def _noting(name: str, found: list[str]) -> Any:
    """A hook that notes a layer whose output isn't finite, or gets a gradient that isn't."""

    def backward(g: Tensor) -> None:
        if not _finite(g):
            found.append(f"the gradient at the output of {name!r}")

    def forward(part: nn.Module, inputs: Any, outputs: Any) -> None:
        if not _finite(outputs) and _finite(inputs):
            found.append(f"the output of {name!r}")
        for value in _floating(outputs):
            if value.requires_grad:
                value.register_hook(backward)

    return forward


def _finite(values: Any) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in _floating(values))


def _floating(values: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
