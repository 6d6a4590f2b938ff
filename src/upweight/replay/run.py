"""One training as a function of its examples' weights: every step, forwards and in reverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Batch, Data
from upweight.gradients.autograd import derivative
from upweight.parameters import Layout
from upweight.replay.batched import Batched
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
    batches: tuple[Int[Tensor, " _"], ...]
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
            loss = self._mean_loss(self.layout.unflatten(theta), number, weights)
            (slope,) = torch.autograd.grad(loss, theta)
        with torch.no_grad():
            return self.rule.step(state, self._shortened(slope), self.rates[number], self.decay)

    def weights_of(self, number: int) -> Float[Tensor, " batch"]:
        """w_i of the examples of a step."""
        return self.weights[self.batches[number].to(self.weights.device)]

    def pull_(self, state: State, number: int, cotangents: Sequence[State]) -> Float[Tensor, "queries batch"]:
        """One step in reverse, for all queries together.

        The gradient of the batch is a function of (θ, w), whose graph is made once; its transpose, applied to a block
        of cotangents, gives every query's product with the batch's Hessian and with each example's gradient in one
        pass, and no example's gradient is formed.

        Parameters
        ----------
        state
            Before the step.
        cotangents
            Derivatives of the measurements by the state after the step, each ``[block, p]``, in blocks of queries that
            are differentiated together. Those by the state before the step are written over them.

        Returns
        -------
        The derivatives by the weights of the examples in the batch.
        """
        weights = self.weights_of(number).detach().requires_grad_()
        with torch.enable_grad():
            named = {name: part.detach().requires_grad_() for name, part in self.layout.unflatten(state[0]).items()}
            leaves = list(named.values())
            with Batched():
                loss = self._mean_loss(named, number, weights)
            slopes = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True, materialize_grads=True)
        slope = self.layout.flatten(dict(zip(named, slopes, strict=True))).detach()
        short, found = self._shortened(slope), []
        for block in cotangents:
            seeds = self._unshortened(slope, self._pulled(state, number, short, block))
            shaped = [seed.reshape(-1, *leaf.shape) for seed, leaf in zip(seeds, leaves, strict=True)]
            *products, by_weight = derivative(slopes, [*leaves, weights], shaped, batched=True)
            for part, product in zip(block[0].split(self.layout.sizes, -1), products, strict=True):
                part += product.reshape(len(product), -1)  # a view of the block
            found.append(by_weight)
        return torch.cat(found)

    def _pulled(self, state: State, number: int, short: Float[Tensor, " p"], block: State) -> list[Tensor]:
        """The optimiser's part: by the gradient that it is given, ``[block, size]`` for each parameter, each by itself.

        Parts that were cut out of one would be copied for the products with them.
        """
        sizes = self.layout.sizes
        states, blocks = (zip(*(part.split(sizes, -1) for part in parts), strict=True) for parts in (state, block))
        decays = self.decay.split(sizes) if isinstance(self.decay, Tensor) else [self.decay] * len(sizes)
        rate, rule = self.rates[number], self.rule
        return [
            rule.pull_(own, slope, rate, decay, cotangents)
            for own, slope, decay, cotangents in zip(states, short.split(sizes), decays, blocks, strict=True)
        ]

    def _mean_loss(self, named: dict[str, Tensor], number: int, weights: Tensor) -> Tensor:
        batch = self.data.take(self.batches[number])
        torch.manual_seed(self.seeds[number])
        losses: Any = self.evaluate(named, batch)
        return (weights * losses).sum() / len(weights)

    def _shortened(self, slope: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """The gradient as the optimiser is given it."""
        return slope if self.clip is None else slope * min(self.clip / (float(slope.norm()) + SMALL), 1.0)

    def _unshortened(self, slope: Float[Tensor, " p"], along: list[Tensor]) -> list[Tensor]:
        """The transpose of ∂(shortened)/∂(slope), applied: with s = c/(‖g‖ + ε) that is s(I − gĝᵀ/(‖g‖ + ε))."""
        if self.clip is None:
            return along
        norm = float(slope.norm())
        share = self.clip / (norm + SMALL)
        if share >= 1:
            return along
        slopes = slope.split(self.layout.sizes)
        dots = torch.stack([part @ own for part, own in zip(along, slopes, strict=True)]).sum(0)
        dots /= norm * (norm + SMALL)
        return [share * (part - torch.outer(dots, own)) for part, own in zip(along, slopes, strict=True)]
