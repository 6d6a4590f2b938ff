"""One training as a function of its examples' weights: every step, forwards and in reverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Batch, Data
from upweight.gradients.autograd import derivative
from upweight.parameters import Layout
from upweight.replay.optimizers import Rate, Rule, State

SMALL = 1e-6
"""What torch's ``clip_grad_norm_`` adds to the norm."""


@dataclass(frozen=True, eq=False)
class Run:
    """A training with everything decided: its first θ, batches, rates and random numbers.

    Attributes
    ----------
    evaluate
        ``(named parameters, batch) -> losses [batch]``, the model in the mode in which it is trained.
    layout, data
        What θ is made of, and the training examples.
    rule, rates
        The optimiser, and what its schedule says of each step.
    batches, seeds
        Positions of the examples of each step, and what torch's random numbers of the step begin with.
    decay
        λ of every entry of θ, or of all.
    clip
        The norm to which a batch's gradient is shortened; None: as it is.
    weights
        w_i of each example's loss in (1/B) Σ w_i ℓ_i, B the number of examples in the batch, ``[train]``.
    start
        θ before the first step.
    """

    evaluate: Callable[[dict[str, Tensor], Batch], Tensor]
    layout: Layout
    data: Data
    rule: Rule
    rates: tuple[Rate, ...]
    batches: tuple[Int[Tensor, " batch"], ...]
    seeds: tuple[int, ...]
    decay: float | Float[Tensor, " p"]
    clip: float | None
    weights: Float[Tensor, " train"]
    start: Float[Tensor, " p"]

    def __len__(self) -> int:
        return len(self.batches)

    def begin(self) -> State:
        """The state before the first step."""
        return self.start, *(torch.zeros_like(self.start) for _ in range(self.rule.slots))

    def step(self, state: State, number: int) -> State:
        """The state after step ``number`` (from 0)."""
        weights = self.weights_of(number)
        with torch.enable_grad():
            theta = state[0].detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._mean_loss(theta, number, weights), theta)
        with torch.no_grad():
            return self._updated(state, slope, number)

    def weights_of(self, number: int) -> Float[Tensor, " batch"]:
        """w_i of the examples of a step."""
        return self.weights[self.batches[number].to(self.weights.device)]

    def pulled(
        self, state: State, number: int, cotangents: State, chunk: int
    ) -> tuple[State, Float[Tensor, "queries batch"]]:
        """One step in reverse, for all queries together.

        The step is a function of (state, w); its graph is made once, and its transpose applied to a block of
        cotangents: products of every query with the batch's Hessian and with each example's gradient come of the same
        pass, and no example's gradient is formed.

        Parameters
        ----------
        state
            Before the step.
        cotangents
            Derivatives of the measurements by the state after the step, each ``[queries, p]``.
        chunk
            Queries that are differentiated together.

        Returns
        -------
        The derivatives by the state before the step, and by the weights of the examples in the batch.
        """
        with torch.enable_grad():
            leaves = [part.detach().requires_grad_() for part in state]
            weights = self.weights_of(number).detach().requires_grad_()
            loss = self._mean_loss(leaves[0], number, weights)
            (slope,) = torch.autograd.grad(loss, leaves[0], create_graph=True)
            after = self._updated(tuple(leaves), slope, number)
            blocks = zip(*(part.split(chunk) for part in cotangents), strict=True)
            found = [derivative(after, [*leaves, weights], list(block), batched=True) for block in blocks]
        *before, by_weight = (torch.cat(parts) for parts in zip(*found, strict=True))
        return tuple(before), by_weight

    def _mean_loss(self, theta: Tensor, number: int, weights: Tensor) -> Tensor:
        batch = self.data.take(self.batches[number])
        torch.manual_seed(self.seeds[number])
        losses: Any = self.evaluate(self.layout.unflatten(theta), batch)
        return (weights * losses).sum() / len(weights)

    def _updated(self, state: State, slope: Tensor, number: int) -> State:
        if self.clip is not None:
            slope = slope * (self.clip / (torch.linalg.vector_norm(slope) + SMALL)).clamp(max=1.0)
        return self.rule.step(state, slope, self.rates[number], self.decay)
