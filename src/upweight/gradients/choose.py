"""Which implementation serves a model and a per-example function."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.data import Batch
from upweight.gradients.autograd import AutogradFunction, substituted
from upweight.gradients.interface import ExampleFunction
from upweight.gradients.linear import LinearFunction, applies, split_model
from upweight.losses import Split
from upweight.parameters import Layout


def example_function(
    model: nn.Module, function: Any, layout: Layout, params: Float[Tensor, " p"], example: Batch
) -> ExampleFunction:
    """The fastest exact implementation of ``function(model, batch) -> [batch]`` and its derivatives.

    Parameters
    ----------
    example
        A batch, on which the linear form is checked against the model before it is trusted.
    """
    parts = split_model(model, layout)
    if parts is not None and isinstance(function, Split):
        linear = LinearFunction(*parts, function, layout)
        with torch.no_grad():
            outputs = substituted(model, function.outputs)(layout.unflatten(params), example)
        if applies(linear, outputs, params, example):
            return linear
    return AutogradFunction(model, function, layout)
