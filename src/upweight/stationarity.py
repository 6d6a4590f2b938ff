"""How far θ is from an optimum of its objective."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Stationarity:
    """How far θ is from an optimum, against what the data can tell.

    Attributes
    ----------
    gradient_norm
        ‖∇R(θ)‖.
    noise
        Standard error of the mean gradient over examples, √(Σ‖g_i − ḡ‖²/n)/√n: two samples of n examples have
        gradients that differ by about this much.
    example_scale
        Root mean square of ‖g_i‖/n: the size of the gradient that leaving one example out creates.
    """

    gradient_norm: float
    noise: float
    example_scale: float

    @property
    def ratio(self) -> float:
        """‖∇R‖ over the noise; below 1, the optimum is reached as far as the data can tell."""
        return self.gradient_norm / self.noise if self.noise > 0 else math.inf if self.gradient_norm else 0.0

    def __str__(self) -> str:
        return (
            f"‖∇R‖ = {self.gradient_norm:.2e}, {self.ratio:.2g} × the sampling noise of the mean gradient "
            f"({self.noise:.2e}); one example's share is {self.example_scale:.2e}"
        )

    @classmethod
    def of(cls, gradient: Float[Tensor, " p"], mean: Float[Tensor, " p"], mean_square: float, n: int) -> Stationarity:
        """From ∇R, the mean ḡ of the examples' gradients and the mean of ‖g_i‖²."""
        variance = max(mean_square - float(mean @ mean), 0.0)
        return cls(float(gradient.norm()), math.sqrt(variance / n), math.sqrt(mean_square) / n)
