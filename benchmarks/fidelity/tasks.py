"""How each task's model is trained, on all examples or on some: the recipes, as a plain function.

The regularisation is part of what is minimised, R(θ) = mean loss + ½ λ‖θ‖²: SGD and Adam take λ as their (coupled)
``weight_decay``. A seed decides the first weights and the order of the examples; no global generator is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.fidelity import data, models

State = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How one model is trained, and how many are.

    Attributes
    ----------
    rate : learning rate, the highest one of the schedule
    schedule : the rate as it is, or one cycle (up and down again) over all steps; the momentum .9 stays as it is
        or goes the other way, .95 to .85 and back
    l2 : λ for every parameter
    subsets, seeds : ground truth: random halves of the training data, and trainings on each
    """

    optimiser: Literal["SGD", "Adam"]
    rate: float
    schedule: Literal["constant", "one cycle", "one cycle of rate and momentum"]
    l2: float
    epochs: int
    batch: int
    subsets: int
    seeds: int


RECIPES = {
    "digits": Recipe("SGD", 0.05, "constant", 1e-3, epochs=30, batch=64, subsets=50, seeds=3),
    "mnist-mlp": Recipe("SGD", 0.1, "one cycle of rate and momentum", 1e-3, epochs=15, batch=256, subsets=100, seeds=2),
    "cifar-cnn": Recipe("SGD", 0.1, "one cycle", 1e-3, epochs=12, batch=25, subsets=40, seeds=2),
    "char-gpt": Recipe("Adam", 0.01, "one cycle", 0.03, epochs=10, batch=10, subsets=40, seeds=2),
}
"""The first two are fixed: ground truths of other days were made by them, and the models explained come out again."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """The model after an epoch, and the mean learning rate of the epoch's steps."""

    model: nn.Module
    rate: float


def epochs(task: str, indices: Sequence[int], seed: int, weights: Tensor | None = None) -> Iterator[Epoch]:
    """Train on the examples at ``indices``; yields after each epoch the model, which training goes on to change.

    ``weights``: of each example's loss, ``[train]``; default 1.
    """
    recipe, examples = RECIPES[task], data.read(task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.build(task).to(memory_format=torch.channels_last)  # a fifth faster, convolutions only
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.as_tensor(indices, dtype=torch.int64)
    steps = -(-len(chosen) // recipe.batch)
    optimiser, schedule = descent(recipe, model, steps * recipe.epochs)
    for _ in range(recipe.epochs):
        rates = 0.0
        for batch in chosen[torch.randperm(len(chosen), generator=generator)].split(recipe.batch):
            optimiser.zero_grad()
            losses = models.loss(model, examples.x_train[batch], examples.y_train[batch])
            (losses if weights is None else weights[batch] * losses).mean().backward()
            rates += optimiser.param_groups[0]["lr"]
            optimiser.step()
            if schedule is not None:
                schedule.step()
        yield Epoch(model, rates / steps)


def train(task: str, indices: Sequence[int], seed: int) -> State:
    """The state of the model trained on the examples at ``indices``."""
    *_, last = epochs(task, indices, seed)
    return {name: value.detach().clone() for name, value in last.model.state_dict().items()}


def train_weighted(task: str, weights: Tensor, seed: int) -> State:
    """The state of the model trained on all examples with these weights."""
    *_, last = epochs(task, range(len(weights)), seed, weights)
    return {name: value.detach().clone() for name, value in last.model.state_dict().items()}


def query_losses(task: str, state: State, chunk: int = 100) -> Tensor:
    """The loss of each query under a trained model, ``[m]``."""
    model, examples = models.build(task), data.read(task)
    model.load_state_dict(state)
    with torch.no_grad():
        pairs = zip(examples.x_test.split(chunk), examples.y_test.split(chunk), strict=True)
        return torch.cat([models.loss(model, x, y) for x, y in pairs])


def descent(
    recipe: Recipe, model: nn.Module, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
    """The recipe's optimiser, and its schedule over so many steps if it has one."""
    parameters = model.parameters()
    if recipe.optimiser == "Adam":
        optimiser: torch.optim.Optimizer = torch.optim.Adam(parameters, recipe.rate, weight_decay=recipe.l2)
    else:
        optimiser = torch.optim.SGD(parameters, recipe.rate, momentum=0.9, weight_decay=recipe.l2)
    if recipe.schedule == "constant":
        return optimiser, None
    momentum_too = recipe.schedule == "one cycle of rate and momentum"
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps, cycle_momentum=momentum_too)
    return optimiser, cycle
