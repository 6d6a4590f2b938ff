"""Units of a model: an output row of a linear layer, or an output channel of a convolution, each with its bias."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from upweight import kinds
from upweight.parameters import Layout

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


@dataclass(frozen=True)
class Layer:
    """A linear layer or a convolution whose units can be chosen.

    Attributes
    ----------
    name
        The module's.
    count
        Number of units.
    channels
        The dimension of the output, from the left or the right, that holds the units.
    parameters
        Names of weight and bias, as far as training changed them, with the dimension that holds the units.
    """

    name: str
    count: int
    channels: int
    parameters: tuple[tuple[str, int], ...]

    def mask(self, layout: Layout, chosen: Int[Tensor, " k"]) -> Bool[Tensor, " p"]:
        """Entries of θ that belong to these units."""
        values = {}
        for name, shape in zip(layout.names, layout.shapes, strict=True):
            values[name] = torch.zeros(shape, dtype=torch.bool)
        for name, dim in self.parameters:
            values[name].index_fill_(dim, chosen.cpu(), True)
        return layout.flatten(values)


def units(model: nn.Module, layout: Layout) -> list[Layer]:
    """The layers of a model that have units, in order; those held fixed, and grouped transposed ones, are left out.

    Parameters
    ----------
    model
        Its linear and convolutional layers are looked at, by ``named_modules()``.
    layout
        Which parameters training changed: ``objective.layout``.
    """
    kinds.check(units, locals())
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            dim, channels = 0, -1
        elif isinstance(module, CONVOLUTIONS):
            if isinstance(module, TRANSPOSED) and module.groups > 1:
                continue  # a channel's entries are not one slice of the weight
            dim, channels = (1 if isinstance(module, TRANSPOSED) else 0), 1
        else:
            continue
        prefix = f"{name}." if name else ""
        parts = tuple((f"{prefix}{part}", place) for part, place in (("weight", dim), ("bias", 0)))
        kept = tuple((part, place) for part, place in parts if part in layout.names)
        if kept:
            found.append(Layer(name, module.weight.shape[dim], channels, kept))
    return found
