"""Many small networks of one architecture trained together: one vectorised pass serves a block of models.

Layout: a block of k models has θ ``[k, p]`` and takes step t with k batches of its models' own examples,
``[k, batch, ...]``. Batches that are shorter than the longest are padded with weight 0, so that each model sees
the mean over its own examples. Each model's result is that of training it alone, to rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import grad, stack_module_state
from torch.utils import _pytree as pytree

from upweight import kinds, scalars
from upweight.checks.arguments import refuse_bad_loss, refuse_training_mode
from upweight.data import Batch, Data, as_data, tensors
from upweight.errors import InputError
from upweight.gradients.substituted import substituted
from upweight.losses import AnyLoss, Loss, as_loss
from upweight.parameters import Layout, select
from upweight.progress import track
from upweight.retraining.recipe import Recipe
from upweight.retraining.trained import Trained, checked_jobs, warn_if_diverged

MEMORY = 2**26
"""Bytes for a block: beyond a processor's cache, more models at once gain nothing there."""
STATES = 6
"""Vectors of p numbers that a model in training needs: θ, its gradient, the optimiser's two, and temporaries."""
ALONE = "train each model by your own function with retraining.train_many"

Gradients = Callable[[Tensor, dict[str, Tensor], Batch, Tensor], Tensor]
"""(θ [k, p], constants by name [k, ...], batches [k, batch, ...], weights [k, batch]) -> gradients [k, p]."""


def train_together(
    build: Callable[[], nn.Module],
    loss: Any,
    data: Any,
    subsets: Sequence[Any],
    seeds: Sequence[int],
    recipe: Recipe,
    *,
    memory: int = MEMORY,
) -> Trained:
    """Train one network per subset, many at a time.

    Parameters
    ----------
    build
        Makes the untrained network; called once per model after ``torch.manual_seed(seed)``. What it draws (its
        initialisation) and the order of the examples are all that a seed decides.
    loss
        One of `upweight.losses`, or a function ``(model, batch) -> [batch]``; a step takes its mean over the batch.
    data
        Training examples, as for `Objective`; floating-point arrays are cast to the model's precision.
    subsets, seeds
        Positions of each model's examples (sizes may differ), and its seed.
    recipe
        Epochs, batch size, optimiser and schedule, the same for all models.
    memory
        Bytes that the models of one block may take; decides how many are trained at once, never the result. More
        is faster on an accelerator.

    Raises
    ------
    InputError
        If the network draws random numbers or mixes examples while training (dropout, batch-norm), or can't be
        vectorised over models: `train_many` trains those.

    Notes
    -----
    Equal to a loop over ``optimizer.zero_grad(); loss.backward(); optimizer.step(); scheduler.step()`` of one model
    at a time on ``subset[torch.randperm(len(subset), generator=torch.Generator().manual_seed(seed))]``, to rounding.
    It gains most where steps are short: small networks and batches, whose cost is the call and not the arithmetic.
    """
    kinds.check(train_together, locals())
    scalars.whole("memory, in bytes", memory)
    started = time.perf_counter()
    source = as_data(data)
    members, seeds = checked_jobs(subsets, seeds, len(source))
    architecture = seeded(build, seeds[0])
    layout = select(architecture, None)
    first = next(architecture.parameters())
    trainer = _Trainer(build, layout, architecture, as_loss(loss, source), source.to(first.dtype, first.device), recipe)
    _refuse(architecture, trainer.loss, trainer.data)
    # Longest first, so that the models still in training are always the first rows of their block.
    order = sorted(range(len(members)), key=lambda j: -recipe.steps(len(members[j])))
    block = max(memory // trainer.bytes_per_model(members[order[0]]), 1)
    parts = []
    for start in track(range(0, len(order), block), f"training {len(order)} models, {min(block, len(order))} at once"):
        chosen = order[start : start + block]
        parts.append(trainer.train([members[j] for j in chosen], [seeds[j] for j in chosen]))
    back = torch.tensor(order).argsort()
    params = torch.cat([part for part, _ in parts])[back]
    constants = {name: torch.cat([kept[name] for _, kept in parts])[back] for name in parts[0][1]}
    warn_if_diverged(params, seeds)
    return Trained(params, constants, layout, members, seeds, architecture.eval(), time.perf_counter() - started)


@dataclass(frozen=True)
class _Trainer:
    """What the blocks of a run share."""

    build: Callable[[], nn.Module]
    layout: Layout
    architecture: nn.Module
    loss: AnyLoss
    data: Data
    recipe: Recipe

    def bytes_per_model(self, subset: Int[Tensor, " size"]) -> int:
        """Memory of one model in training: its vectors, and the activations of a batch as autograd keeps them."""
        batch = self.data.take(subset[: self.recipe.batch_size])
        kept = []

        def count(tensor: Tensor) -> Tensor:
            kept.append(tensor.nbytes)
            return tensor

        with torch.enable_grad(), saved_tensors_hooks(count, lambda tensor: tensor):
            self.loss(self.architecture, batch)
        item = next(self.architecture.parameters()).element_size()
        return STATES * self.layout.p * item + sum(kept) + sum(leaf.nbytes for leaf in tensors(batch))

    def train(self, subsets: list[Tensor], seeds: list[int]) -> tuple[Float[Tensor, "k p"], dict[str, Tensor]]:
        """θ of each model after the recipe, and what training left alone; subsets come longest first."""
        stacked, buffers = stack_module_state([seeded(self.build, seed) for seed in seeds])
        theta = self.layout.flatten(stacked).detach()
        constants = {name: v.detach() for name, v in {**stacked, **buffers}.items() if name not in self.layout.names}
        gradients = _gradients(self.architecture, self.loss, self.layout)
        lengths = [self.recipe.steps(len(subset)) for subset in subsets]
        rates = self._rates(lengths, theta)
        states = self.recipe.states(theta)
        batches = [self.recipe.batches(subset, seed) for subset, seed in zip(subsets, seeds, strict=True)]
        for t in range(lengths[0]):
            live = sum(steps > t for steps in lengths)
            index, weights = _padded([next(each) for each in batches[:live]], theta)
            batch = pytree.tree_map(partial(_by_model, models=live), self.data.take(index.flatten()))
            fixed = {name: values[:live] for name, values in constants.items()}
            slopes = gradients(theta[:live], fixed, batch, weights)
            now = rates[0][:live, t, None], rates[1][:live, t, None]
            self.recipe.step_(theta[:live], slopes, [state[:live] for state in states], now, t + 1)
        return theta, constants

    def _rates(self, lengths: list[int], like: Tensor) -> tuple[Float[Tensor, "k steps"], Float[Tensor, "k steps"]]:
        """Learning rate and momentum of each model and step; models of equal length share theirs."""
        found = {steps: self.recipe.rates(steps) for steps in set(lengths)}
        lrs, momenta = (
            nn.utils.rnn.pad_sequence([found[steps][kind] for steps in lengths], batch_first=True) for kind in (0, 1)
        )
        return lrs.to(like), momenta.to(like)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network that ``build`` makes after ``torch.manual_seed(seed)``; the generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
    if not isinstance(model, nn.Module):
        raise InputError(f"build: must return a torch.nn.Module; got {type(model).__name__}")
    return model


def _refuse(architecture: nn.Module, loss: AnyLoss, data: Data) -> None:
    """Refuse networks whose examples depend on chance or on each other, and losses that don't fit the data."""
    try:
        refuse_training_mode(architecture)
    except InputError as error:
        raise InputError(f"{error} (in build, if training shall not use it), or {ALONE}") from None
    if isinstance(loss, Loss):
        with torch.no_grad():
            for _, batch in data.batches(None, None):
                loss.check(loss.outputs(architecture, batch), batch)
    refuse_bad_loss(loss, architecture, data.take(list(range(min(len(data), 2)))))


def _gradients(architecture: nn.Module, loss: AnyLoss, layout: Layout) -> Gradients:
    """Gradients of weighted sums of losses, each at its own θ and on its own batch."""
    evaluate = substituted(architecture, loss)

    def gradients(params: Tensor, constants: dict[str, Tensor], batch: Batch, weights: Tensor) -> Tensor:
        leaves, spec = pytree.tree_flatten(batch)
        dims = [0 if isinstance(leaf, Tensor) else None for leaf in leaves]

        def total(theta: Tensor, fixed: dict[str, Tensor], weight: Tensor, *own: Any) -> Tensor:
            named = {**layout.unflatten(theta), **fixed}
            return (weight * evaluate(named, pytree.tree_unflatten(own, spec))).sum()

        try:
            return torch.vmap(grad(total), in_dims=(0, 0, 0, *dims))(params, constants, weights, *leaves)
        except InputError:  # a ValueError, but what the user gave, said already
            raise
        # torch has no error of its own for this: vmap raises RuntimeError or NotImplementedError where an operation has
        # no batched form, and the user's code ValueError or TypeError where it reads a number off a batched tensor.
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0][:160]
            raise InputError(f"build: these networks can't be trained together ({reason}); {ALONE}") from error

    return gradients


def _padded(batches: list[Tensor], like: Tensor) -> tuple[Int[Tensor, "k batch"], Float[Tensor, "k batch"]]:
    """Batches as long as the longest, filled by own examples of weight 0; each model's weights sum to 1."""
    longest = max(len(batch) for batch in batches)
    index = torch.stack([batch[torch.arange(longest).clamp(max=len(batch) - 1)] for batch in batches])
    sizes = like.new_tensor([len(batch) for batch in batches])[:, None]
    return index, (torch.arange(longest, device=like.device) < sizes) / sizes


def _by_model(leaf: Any, models: int) -> Any:
    return leaf.unflatten(0, (models, -1)) if isinstance(leaf, Tensor) else leaf
