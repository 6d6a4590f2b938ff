"""How far θ is from an optimum of its objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.gradients import Block, Gradients
from upweight.parameters import Layout

NOTABLE = 1.5
"""‖∇R‖ over its sampling noise from which it is spoken of: 1 is what an optimum of other data of the same kind has."""


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
    def is_notable(self) -> bool:
        """Whether ∇R is more than chance leaves between two samples: a model that generalises is no nearer."""
        return self.noise > 0 and self.ratio > NOTABLE

    @property
    def words(self) -> str:
        """The figures in short."""
        return f"‖∇R‖ = {self.gradient_norm:.2g}, {self.ratio:.2g} × its sampling noise"

    @property
    def ratio(self) -> float:
        """‖∇R‖ over the noise; below 1, the optimum is reached as far as the data can tell."""
        return self.gradient_norm / self.noise if self.noise > 0 else math.inf if self.gradient_norm else 0.0

    def __str__(self) -> str:
        return (
            f"‖∇R‖ = {self.gradient_norm:.2e}, {self.ratio:.2g} × the sampling noise of the mean gradient "
            f"({self.noise:.2e}); one example's share is {self.example_scale:.2e}"
        )


class Moments:
    """Σ w_i∇ℓ_i and Σ ‖w_i∇ℓ_i‖² over examples, gathered on the way of any pass that has their gradients."""

    def __init__(self, like: Float[Tensor, " p"], layout: Layout):
        self.total = torch.zeros_like(like, dtype=torch.float64)
        self.rounding = 8 * torch.finfo(torch.promote_types(like.dtype, torch.float32)).eps
        self._parts = {name: part.view(-1) for name, part in layout.unflatten(self.total).items()}  # of the total
        self._each: list[Tensor] = []

    @classmethod
    def of(
        cls, like: Float[Tensor, " p"], layout: Layout, total: Float[Tensor, " p"], each: Float[Tensor, " examples"]
    ) -> Moments:
        """Sums that were gathered elsewhere."""
        found = cls(like, layout)
        found.total += total.to(found.total)
        found._each.append(each.to(found.total))
        return found

    @property
    def each(self) -> Float[Tensor, " examples"]:
        """‖w_i∇ℓ_i‖² of every example, in the order of the pass."""
        return torch.cat(self._each) if self._each else self.total.new_zeros(0)

    @property
    def squares(self) -> float:
        """Σ ‖w_i∇ℓ_i‖²."""
        return float(self.each.sum())

    def batch(self, examples: int) -> Callable[[Block], None]:
        """What takes the blocks of so many examples' weighted gradients, one after the other."""
        squares = self.total.new_zeros(examples)
        self._each.append(squares)

        def see(block: Block) -> None:
            ones = self.total.new_ones(1, examples, dtype=block.dtype)
            for name, total in block.shape.named(block.combine(ones)).items():
                self._parts[name].add_(total[0])
            squares.add_(block.norms())

        return see

    def add_gradients(self, gradients: Gradients) -> None:
        """A batch's weighted gradients."""
        see = self.batch(gradients.examples)
        for block in gradients.blocks:
            see(block.formed())

    def judged(self, n: int, pull: Float[Tensor, " p"]) -> Stationarity:
        """Of n examples, ``pull`` being the penalty's gradient λθ."""
        mean = self.total / n
        mean_square = self.squares / n
        variance = mean_square - float(mean @ mean)
        if variance <= self.rounding * mean_square:  # of one example, or of equal ones: there is none
            variance = 0.0
        norm = float((mean + pull.double()).norm())
        return Stationarity(norm, math.sqrt(variance / n), math.sqrt(mean_square) / n)
