"""The selected parameters as one flat vector θ, and back.

Layout used everywhere: parameters in the order of ``model.named_parameters()``, each flattened row by row
and joined. A block of k vectors is ``[k, p]``: vectors are rows.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from upweight.messages import InputError
from upweight.scalars import shown

Selection = Sequence[str] | Callable[[str, nn.Parameter], bool] | None


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
            parts.append(value.reshape(*leading, -1))
        return torch.cat(parts, dim=-1)

    def unflatten(self, vectors: Shaped[Tensor, "*k p"]) -> dict[str, Tensor]:
        """Cut vectors into named tensors; leading dimensions are kept."""
        parts = vectors.split(self.sizes, dim=-1)
        leading = vectors.shape[:-1]
        return {
            name: part.reshape((*leading, *shape))
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }


def select(model: nn.Module, parameters: Selection) -> Layout:
    """The layout of the parameters of ``model`` that ``parameters`` selects.

    Parameters
    ----------
    parameters
        ``None``: every parameter with ``requires_grad``. Names or shell patterns (``"head.*"``), or a
        function ``(name, parameter) -> bool``. Parameters not selected are held fixed.

    Raises
    ------
    InputError
        If a pattern matches nothing, or nothing at all is selected (p = 0).
    """
    named = dict(model.named_parameters())
    if parameters is None:
        chosen = [name for name, value in named.items() if value.requires_grad]
    elif callable(parameters):
        chosen = [name for name, value in named.items() if parameters(name, value)]
    else:
        if isinstance(parameters, str):
            parameters = [parameters]
        if not isinstance(parameters, Sequence) or not all(isinstance(pattern, str) for pattern in parameters):
            raise InputError(
                "parameters: give names or patterns, a function (name, parameter) -> bool, or a rule or subset of "
                f"upweight.select (of a mask: select.masked(objective.layout, mask)); got {shown(parameters)}"
            )
        for pattern in parameters:
            if not fnmatch.filter(named, pattern):
                raise InputError(f"parameters: {pattern!r} matches no parameter; the model has {list(named)}")
        chosen = [name for name in named if any(fnmatch.fnmatch(name, pattern) for pattern in parameters)]
    if not chosen:
        raise InputError(
            f"parameters: none of the model's {len(named)} parameters is selected (p = 0); "
            "influence needs at least one parameter that training changes"
        )
    for name in chosen:
        if not torch.isfinite(named[name]).all():
            raise InputError(f"model: parameter {name!r} holds NaN or infinite values; give a trained model")
    return Layout(tuple(chosen), tuple(named[name].shape for name in chosen))
