"""Four small trainings with models retrained on random halves: two of the benchmark, two that nothing was chosen on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from benchmarks.fidelity import data as benchmark
from benchmarks.fidelity import models, stored, tasks
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

import upweight as uw
from upweight.evaluation import GroundTruth, Protocol, Training, ground_truth

QUICK = bool(os.environ.get("QUICK"))
HALVES, SEEDS = (6, 1) if QUICK else (30, 2)


def batch_normed() -> nn.Module:
    """For thirty columns: two hidden layers with BatchNorm."""
    layers = [nn.Linear(30, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 2))


def convolutional() -> nn.Module:
    """For digits of 8 × 8: two convolutions with GELU."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        *(nn.Conv2d(1, 12, 3, padding=1), nn.GELU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(12, 24, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(24 * 16, 10)),
    )


@dataclass(frozen=True, eq=False)
class Study:
    """A training: ``examples`` are inputs and labels, of training data and queries."""

    name: str
    build: Callable[[], nn.Module]
    recipe: tasks.Recipe
    examples: tuple[Tensor, Tensor, Tensor, Tensor]

    @property
    def n(self) -> int:
        """Training examples."""
        return len(self.examples[0])

    @property
    def queries(self) -> tuple[Tensor, Tensor]:
        """What is explained."""
        return self.examples[2], self.examples[3]

    def train(
        self,
        weights: Tensor,
        seed: int = 0,
        *,
        steps: float = 1.0,
        until: float = 1.0,
        chosen: Tensor | None = None,
    ) -> nn.Module:
        """Train with weights ``[train]``; ``steps``: share of the steps (larger batches), ``until``: of the epochs."""
        recipe, (x, y, *_) = self.recipe, self.examples
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build()
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.arange(self.n) if chosen is None else chosen
        batch = round(recipe.batch / steps)
        total = -(-len(chosen) // batch) * recipe.epochs
        optimiser, schedule = tasks.descent(recipe, model, total)
        for _ in range(round(until * recipe.epochs)):
            for members in chosen[torch.randperm(len(chosen), generator=generator)].split(batch):
                optimiser.zero_grad()
                (weights[members] * models.loss(model, x[members], y[members])).mean().backward()
                optimiser.step()
                if schedule is not None:
                    schedule.step()
        return model.eval()

    def on(self, indices: Tensor, seed: int) -> nn.Module:
        """Train on some of the examples."""
        return self.train(torch.ones(self.n), seed, chosen=indices)

    def objective(self, model: nn.Module, temperature: float = 1.0) -> uw.Objective:
        """What was minimised."""
        loss = uw.losses.CrossEntropy(temperature=temperature)
        return uw.Objective(model, loss, self.examples[:2], l2=self.recipe.l2)

    @property
    def truth(self) -> GroundTruth:
        """Models of random halves: the benchmark's where it has them, else trained now."""
        if self.name in tasks.RECIPES:
            found = stored.read(stored.path(self.name))
            subsets, losses = torch.from_numpy(found["subsets"]), torch.from_numpy(found["losses"])
            protocol = Protocol("averaged seeds", subsets.shape[1] / self.n, losses.shape[1])
            return GroundTruth(subsets, losses, protocol, False, 0.0)
        folder = stored.FOLDER / "trainings" / f"expansion-{self.name}{'-quick' if QUICK else ''}"
        training = Training(self.on, seeds=range(SEEDS), folder=folder)
        return ground_truth(self.objective(self.given), training, self.queries, subsets=HALVES)

    @property
    def given(self) -> nn.Module:
        """The model explained."""
        if self.name not in tasks.RECIPES:
            return self.train(torch.ones(self.n))
        model, found = self.build(), stored.read(stored.path(self.name))
        with torch.no_grad():
            for number, value in enumerate(model.parameters()):
                value.copy_(torch.from_numpy(found[f"param_{number}"]))
        return model

    @property
    def mean_loss_of_halves(self) -> float:
        """The mean loss of all training examples under models of three halves."""
        halves = self.truth.subsets[:3]
        return sum(self.loss(self.on(half, 0)) for half in halves) / len(halves)

    def loss(self, model: nn.Module) -> float:
        """Mean loss of the training examples."""
        with torch.no_grad():
            return float(models.loss(model, *self.examples[:2]).mean())


def of_benchmark(task: str) -> Study:
    """One of the benchmark's tasks."""
    found = benchmark.read(task)
    examples = (found.x_train, found.y_train, found.x_test, found.y_test)
    return Study(task, lambda: models.build(task), tasks.RECIPES[task], examples)


def cancer() -> Study:
    """Breast cancer of scikit-learn, in a seeded order: Adam, BatchNorm, no decay."""
    found: Any = load_breast_cancer()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(found.data)[order].float()
    x, y = (x - x.mean(0)) / x.std(0), torch.from_numpy(found.target)[order]
    recipe = tasks.Recipe("Adam", 0.003, "constant", 0.0, epochs=20, batch=32, subsets=HALVES, seeds=SEEDS)
    return Study("cancer", batch_normed, recipe, (x[:400], y[:400], x[400:], y[400:]))


def digits_cnn() -> Study:
    """The last digits, which the benchmark's task doesn't hold, by a CNN."""
    found, order = uw.datasets.load("digits"), benchmark.digits_order()[1200:]
    x = torch.from_numpy(found.images[order]).float() / 16
    y = torch.from_numpy(found.labels[order])
    recipe = tasks.Recipe("SGD", 0.05, "one cycle", 1e-3, epochs=15, batch=16, subsets=HALVES, seeds=SEEDS)
    return Study("digits-cnn", convolutional, recipe, (x[:450], y[:450], x[450:], y[450:]))


@cache
def study(name: str) -> Study:
    """By its name."""
    if name in tasks.RECIPES:
        return of_benchmark(name)
    return {"cancer": cancer, "digits-cnn": digits_cnn}[name]()


NAMES = ("digits", "digits-cnn") if QUICK else ("digits", "mnist-mlp", "cancer", "digits-cnn")
