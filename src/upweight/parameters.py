"""The selected parameters as one flat vector θ, and back.

Layout used everywhere: parameters in the order of ``model.named_parameters()``, each flattened row by row
and joined. A block of k vectors is ``[k, p]``: vectors are rows.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from upweight.adapters import ADAPTERS, adapter_names
from upweight.errors import InputError
from upweight.scalars import shown

Part = str | Tensor | nn.Module | Mapping[str, Any]
Selection = Part | Iterable[Part] | Callable[[str, nn.Parameter], bool] | None


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the parameters that make up θ, in order."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def p(self) -> int:
        """Number of entries of θ."""
        return sum(self.sizes)

    def flatten(self, values: Mapping[str, Tensor]) -> Shaped[Tensor, "*k p"]:
        """Join named tensors (with equal leading dimensions, if any) into vectors."""
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            value = values[name]
            leading = value.shape[: value.dim() - len(shape)]
            parts.append(value.reshape(*leading, math.prod(shape)))
        return torch.cat(parts, dim=-1)

    def unflatten(self, vectors: Shaped[Tensor, "*k p"]) -> dict[str, Tensor]:
        """Cut vectors into named tensors; leading dimensions are kept."""
        parts = vectors.split(self.sizes, dim=-1)
        leading = vectors.shape[:-1]
        return {
            name: part if len(shape) == 1 else part.reshape((*leading, *shape))
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }


def select(model: nn.Module, parameters: Selection) -> Layout:
    """The layout of the parameters of ``model`` that ``parameters`` selects.

    Parameters
    ----------
    parameters
        ``None``: every parameter with ``requires_grad``. Names or shell patterns (``"head.*"``), parameters or
        modules of the model itself, told by identity, ``"adapters"`` (`upweight.adapters`), any mixture of these; or a
        function ``(name, parameter) -> bool``. Parameters not selected are held fixed.

    Raises
    ------
    InputError
        If a pattern matches nothing, a parameter or module is another model's, or nothing at all is selected (p = 0).
    """
    named = dict(model.named_parameters())
    if parameters is None:
        chosen = [name for name, value in named.items() if value.requires_grad]
    elif callable(parameters) and not isinstance(parameters, nn.Module):
        try:
            chosen = [name for name, value in named.items() if parameters(name, value)]
        except Exception as error:  # a user's own function may raise whatever it likes
            raise InputError(
                f"parameters: the function (name, parameter) -> bool raised {type(error).__name__}: {error}; mend it, "
                "or give names"
            ) from error
    else:
        parts = [parameters] if isinstance(parameters, str | Tensor | nn.Module | Mapping) else parameters
        if not isinstance(parts, Iterable):
            raise InputError(
                "parameters: give names or patterns, parameters, modules or an optimiser's groups of them, a function "
                "(name, parameter) -> bool, or a rule or subset of upweight.select (a mask: select.masked(…)); "
                f"got {shown(parameters)}"
            )
        if isinstance(parts, Iterator):
            parts = list(parts)
        found = {name for part in parts for one in _grouped(part) for name in _named_by(one, model, named)}
        chosen = [name for name in named if name in found]
    if not chosen:
        raise InputError(
            f"parameters: none of the model's {len(named)} parameters is selected (p = 0); "
            "influence needs at least one parameter that training changes"
        )
    for name in chosen:
        if not torch.isfinite(named[name]).all():
            raise InputError(f"model: parameter {name!r} holds NaN or infinite values; give a trained model")
    return Layout(tuple(chosen), tuple(named[name].shape for name in chosen))


def _grouped(part: Any) -> Iterable[Any]:
    """Those of an optimiser's parameter group, where it is one."""
    return part["params"] if isinstance(part, Mapping) and "params" in part else [part]


def _named_by(part: Any, model: nn.Module, named: Mapping[str, Tensor]) -> list[str]:
    """Names of the parameters that a name, a pattern, a parameter or a module stands for."""
    if isinstance(part, str) and part == ADAPTERS and part not in named:
        return adapter_names(model)
    if isinstance(part, str):
        found = fnmatch.filter(named, part)
        if not found:
            raise InputError(f"parameters: {part!r} matches no parameter; the model has {list(named)}")
        return found
    own = {id(value): name for name, value in named.items()}
    if isinstance(part, nn.Module):
        if not any(part is module for module in model.modules()):
            raise InputError(
                f"parameters: the {type(part).__name__} given is none of the model's modules (of a copy of it?); give "
                "the model's own"
            )
        return [own[id(value)] for value in part.parameters()]
    if isinstance(part, Tensor):
        if id(part) not in own:
            raise InputError(
                f"parameters: a tensor {list(part.shape)} is none of the model's parameters (of a copy of it, or "
                "computed from one?); give the model's own, or names; of a mask, select.masked(objective.layout, mask)"
            )
        return [own[id(part)]]
    raise InputError(
        f"parameters: {part!r} is no name, parameter or module; give those, or a function (name, parameter) -> bool"
    )
