"""Modules that stand around a model and compute the same: compiled, parallel, distributed ones; and optimisers'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

INNER = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
"""Attribute under which each of torch's wrappers holds its model, which is a prefix of the names of its parameters."""


def unwrapped(model: Any) -> Any:
    """The model itself: its parameters have the names that they have without the wrappers."""
    for wrapper in _around(model):
        model = getattr(wrapper, INNER[type(wrapper).__name__])
    return model


def own_names(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A state dict of a wrapped model by the model's own names."""
    for prefix in ("_orig_mod.", "module."):
        if state and all(isinstance(name, str) and name.startswith(prefix) for name in state):
            return own_names({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def unprefixed(selection: Any, model: nn.Module) -> Any:
    """Names and patterns of a wrapped model's parameters as its own; a wrapper itself as what it holds.

    Of a mapping by name (``l2``), the same mapping by the model's own names.
    """
    around = list(_around(model))
    if not around:
        return selection
    prefix = ".".join(INNER[type(wrapper).__name__] for wrapper in around) + "."

    def own(part: Any) -> Any:
        if isinstance(part, str):
            return part.removeprefix(prefix)
        return unwrapped(part) if any(part is wrapper for wrapper in around) else part

    if isinstance(selection, Mapping) and "params" not in selection:
        return {own(name): value for name, value in selection.items()}
    return [own(part) for part in selection] if isinstance(selection, list | tuple | set) else own(selection)


def _around(model: Any) -> list[nn.Module]:
    """The wrappers, from the outside in."""
    found = []
    while type(model).__name__ in INNER and type(model).__module__.partition(".")[0] == "torch":
        found.append(model)
        model = getattr(model, INNER[type(model).__name__])
    return found


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The optimiser of torch within those of accelerate and Lightning."""
    while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer
