"""Squared error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from upweight import scalars
from upweight.data import Batch
from upweight.errors import InputError
from upweight.losses.base import Loss
from upweight.losses.batches import split_batch


@dataclass(frozen=True)
class SquaredError(Loss):
    """``factor`` · Σ (f − y)² over outputs; factor ½ makes the gradient of the output the residual."""

    factor: float = 0.5
    unit = "squared units of the target"
    is_likelihood = True
    is_convex = True
    classifies = False

    def __post_init__(self) -> None:
        scalars.number("factor", self.factor, above=0)

    def sample(self, outputs: Tensor, batch: Batch, uniform: Tensor) -> Tensor:
        """Gaussian around the outputs with variance 1/(2·factor), of which this loss is the negative log-density."""
        noise = torch.special.ndtri(uniform.clamp(1e-15, 1 - 1e-15)) / (2 * self.factor) ** 0.5
        targets = split_batch(batch)[1]
        return (outputs + noise.to(outputs.dtype)).reshape(targets.shape)

    def compare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared error by output."""
        return self.factor * (_aligned(outputs, targets) - targets) ** 2

    def check(self, outputs: Tensor, batch: Batch) -> None:
        """Outputs and targets must have as many numbers.

        Raises
        ------
        InputError
            If they haven't; gives both shapes.
        """
        targets = split_batch(batch)[1]
        if outputs.numel() != targets.numel():
            raise InputError(f"SquaredError: outputs {tuple(outputs.shape)} against targets {tuple(targets.shape)}")


def _aligned(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs in the shape of the targets (a model with one output gives ``[batch, 1]``)."""
    return outputs.reshape(targets.shape) if outputs.numel() == targets.numel() else outputs
