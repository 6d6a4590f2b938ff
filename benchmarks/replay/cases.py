"""The trainings that are replayed: the recipes of two fidelity tasks, with smooth activations and with ReLU."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import upweight as uw
from benchmarks.fidelity import data
from benchmarks.fidelity.tasks import RECIPES

WIDTHS = {"digits": (64, 64, 10), "mnist-mlp": (784, 256, 128, 10)}
ACTIVATIONS: dict[str, type[nn.Module]] = {"GELU": nn.GELU, "ReLU": nn.ReLU}
SEED = 0
MOMENTUM = 0.9


@dataclass(frozen=True)
class Case:
    """A task's recipe with an activation.

    Attributes
    ----------
    task, activation
        Which.
    truth
        Subsets that are trained on, by the share of the training examples that they lack.
    count
        Queries: the first test examples.
    """

    task: str
    activation: str
    truth: tuple[tuple[float, int], ...]
    count: int

    def __str__(self) -> str:
        return f"{self.task}, {self.activation}"

    def queries(self) -> tuple[Tensor, Tensor]:
        """The first test examples."""
        found = data.read(self.task)
        return found.x_test[: self.count], found.y_test[: self.count]

    def replay(self) -> uw.Replay:
        """The training, declared."""
        found, recipe, widths = data.read(self.task), RECIPES[self.task], WIDTHS[self.task]
        one_cycle = recipe.schedule == "one cycle of rate and momentum"
        return uw.Replay(
            lambda: mlp(ACTIVATIONS[self.activation], *widths),
            uw.losses.CrossEntropy(),
            (found.x_train, found.y_train),
            optimizer=uw.replay.SGD(recipe.rate, momentum=MOMENTUM, weight_decay=recipe.l2),
            schedule="one-cycle" if one_cycle else "constant",
            epochs=recipe.epochs,
            batch_size=recipe.batch,
            seed=SEED,
        )

    def removed(self, share: float, count: int) -> np.ndarray:
        """Which examples each subset lacks, ``[subsets, train]``."""
        n = data.read(self.task).n
        generator = np.random.default_rng(round(1000 * share))
        rows = np.zeros((count, n), dtype=bool)
        for row in rows:
            row[generator.choice(n, round(share * n), replace=False)] = True
        return rows

    def loop(self) -> Callable[[int], nn.Module]:
        """So many steps of the same training as a plain loop of torch, for their seconds."""
        found, recipe = data.read(self.task), RECIPES[self.task]

        def train(steps: int) -> nn.Module:
            model = mlp(ACTIVATIONS[self.activation], *WIDTHS[self.task])
            optimizer = torch.optim.SGD(model.parameters(), recipe.rate, momentum=MOMENTUM, weight_decay=recipe.l2)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps + 1)
            for step in range(steps):
                batch = torch.arange(recipe.batch) + step % (found.n // recipe.batch - 1) * recipe.batch
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(found.x_train[batch]), found.y_train[batch]).backward()
                optimizer.step()
                schedule.step()
            return model

        return train


def mlp(activation: type[nn.Module], *widths: int) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


CASES = (
    Case("digits", "GELU", ((0.5, 100), (0.01, 100), (0.05, 100), (0.2, 100)), 100),
    Case("digits", "ReLU", ((0.5, 100), (0.01, 100)), 100),
    Case("mnist-mlp", "GELU", ((0.01, 50), (0.5, 50)), 50),
)
WEIGHTS = (1.0, 0.5)
"""Expansion points."""
