"""Which implementation serves a model and a per-example function."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.data import Batch, batch_length
from upweight.errors import SlowPathWarning, warn
from upweight.forward import half_of
from upweight.gradients.autograd import AutogradFunction
from upweight.gradients.factored import FactoredFunction
from upweight.gradients.interface import ExampleFunction
from upweight.gradients.linear import LinearFunction, applies, split_model
from upweight.gradients.substituted import substituted
from upweight.losses import Split
from upweight.parameters import Layout


def example_function(
    model: nn.Module, function: Any, layout: Layout, params: Float[Tensor, " p"], example: Batch
) -> ExampleFunction:
    """The fastest exact implementation of ``function(model, batch) -> [batch]`` and its derivatives.

    Parameters
    ----------
    example
        A batch of a few examples, on which the linear form, or that of factors, is checked before it is trusted.
    """
    parts = split_model(model, layout)
    if parts is not None and isinstance(function, Split):
        half = half_of(model)
        linear = LinearFunction(*parts, function, layout)
        outputs_of = substituted(model, function.outputs)
        with torch.no_grad():
            # At another θ too: a bias that is still zero shows nothing of what becomes of it.
            points = (params, params + 1)
            fits = all(applies(linear, outputs_of(layout.unflatten(at), example), at, example, half) for at in points)
        if fits:
            return linear
    if batch_length(example) < 2:
        return AutogradFunction(model, function, layout)
    try:
        return FactoredFunction(model, function, layout, params, example)
    except (RuntimeError, AttributeError) as error:  # not by its outputs: re-entrant checkpoints, nested tensors
        reason = str(error).strip().splitlines()[0][:160]
        warn(
            f"per-example gradients: no factors can be read off this model ({reason}); plain differentiation is used",
            SlowPathWarning,
        )
        return AutogradFunction(model, function, layout)
