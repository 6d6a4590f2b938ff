"""The tasks, and the models retrained on random halves that scores are held against."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial

import torch
from benchmarks.fidelity import stored, tasks
from torch import Tensor, nn

import upweight as uw
from experiments.choice import examples, networks
from experiments.expansion.studies import Study
from upweight.evaluation import GroundTruth, Protocol, Training, ground_truth
from upweight.retraining import random_halves, train_together

QUICK = bool(os.environ.get("QUICK"))
HALVES, SEEDS = (6, 1) if QUICK else (50, 2)
FIRST_SEED = 1
"""Of the models of halves: the model explained has seed 0."""

_sgd = partial(tasks.Recipe, "SGD", subsets=HALVES, seeds=SEEDS)
_adam = partial(tasks.Recipe, "Adam", schedule="constant", subsets=HALVES, seeds=SEEDS)


def _study(
    name: str, build: Callable[[], nn.Module], recipe: tasks.Recipe, made: Callable[[], examples.Examples]
) -> tuple[str, Callable[[], Study]]:
    return name, lambda: Study(name, build, recipe, made())


def _table(name: str, rows: int, recipe: tasks.Recipe) -> tuple[str, Callable[[], Study]]:
    def make() -> Study:
        made = examples.table(name, rows, 0)
        return Study(f"{name}-batchnorm", partial(networks.batch_normed, made[0].shape[1]), recipe, made)

    return f"{name}-batchnorm", make


FINDING = dict([
    _study(
        "digits-mlp",
        partial(networks.perceptron, 64, 96, 10),
        _sgd(0.05, "constant", 0.0, epochs=40, batch=32),
        partial(examples.digits, 600, 1),
    ),
    _study(
        "mnist-short",
        partial(networks.perceptron, 196, 48, 10, activation=nn.GELU),
        _sgd(0.05, "one cycle", 1e-3, epochs=6, batch=64),
        partial(examples.images, "mnist", 1200, 2),
    ),
    _study(
        "digits-lstm",
        partial(networks.Recurrent, 8, 32, 10),
        _adam(0.01, l2=0.0, epochs=15, batch=25),
        partial(examples.digits, 500, 3),
    ),
    _table("adult", 1000, _adam(0.003, l2=0.0, epochs=15, batch=32)),
])  # fmt: skip
"""Rules are looked for on these."""

KEPT = dict([
    _study(
        "mnist-wrong-labels",
        partial(networks.perceptron, 196, 64, 10),
        _sgd(0.05, "constant", 5e-4, epochs=25, batch=50),
        partial(examples.images, "mnist", 800, 6, wrong=0.15),
    ),
    _study(
        "fashion-cnn",
        partial(networks.convolutional, 1, 14, smooth=False),
        _sgd(0.03, "one cycle", 5e-4, epochs=12, batch=25),
        partial(examples.images, "fashion-mnist", 400, 7),
    ),
    _study(
        "digits-transformer",
        partial(networks.Transformer, 8, 8, 24, 2, 10),
        _adam(0.005, l2=0.0, epochs=12, batch=25),
        partial(examples.digits, 400, 8),
    ),
    _table("support2", 600, _adam(0.003, l2=1e-3, epochs=12, batch=32)),
])  # fmt: skip
"""Looked at once, when the rule was chosen."""

NAMES = ("digits-mlp", "fashion-cnn") if QUICK else (*FINDING, *KEPT)


@cache
def study(name: str) -> Study:
    """By its name."""
    return {**FINDING, **KEPT}[name]()


@cache
def given(name: str) -> nn.Module:
    """The model explained."""
    one = study(name)
    return one.train(torch.ones(one.n))


@cache
def truth(name: str) -> GroundTruth:
    """Outcomes of models of random halves, trained once and kept."""
    place = stored.FOLDER / "trainings" / f"choice-{name}{'-quick' if QUICK else ''}.npz"
    if not place.exists():
        one = study(name)
        made = _alone(one) if has_batch_norm(one) else _together(one)
        stored.store(place, {"subsets": made.subsets.numpy(), "outcomes": made.outcomes.numpy()})
    found = {key: torch.from_numpy(value) for key, value in stored.read(place).items()}
    protocol = Protocol("averaged seeds", 0.5, found["outcomes"].shape[1])
    return GroundTruth(found["subsets"], found["outcomes"], protocol, False, 0.0)


def has_batch_norm(one: Study) -> bool:
    """Whether its examples meet in a batch, so that models can't be trained in one vectorised pass."""
    return any(isinstance(module, nn.BatchNorm1d) for module in one.build().modules())


def _alone(one: Study) -> GroundTruth:
    folder = stored.FOLDER / "trainings" / f"choice-{one.name}{'-quick' if QUICK else ''}"
    training = Training(one.on, seeds=range(FIRST_SEED, FIRST_SEED + SEEDS), folder=folder)
    return ground_truth(one.objective(one.given), training, one.queries, subsets=HALVES)


def _together(one: Study) -> GroundTruth:
    halves, recipe = random_halves(one.n, HALVES, 0), one.recipe
    vectorised = uw.retraining.Recipe(
        recipe.epochs,
        recipe.batch,
        recipe.rate,
        momentum=0.9 if recipe.optimiser == "SGD" else 0.0,
        weight_decay=recipe.l2,
        schedule="constant" if recipe.schedule == "constant" else "one-cycle",
        cycle_momentum=False,
        optimizer="sgd" if recipe.optimiser == "SGD" else "adam",
    )
    subsets = [half for half in halves for _ in range(SEEDS)]
    seeds = [*range(FIRST_SEED, FIRST_SEED + SEEDS)] * HALVES
    models = train_together(one.build, uw.losses.CrossEntropy(), one.examples[:2], subsets, seeds, vectorised)
    outcomes = torch.stack([query_losses(models.model(number), *one.queries) for number in range(len(seeds))])
    protocol = Protocol("averaged seeds", halves.shape[1] / one.n, SEEDS)
    return GroundTruth(halves, outcomes.unflatten(0, (HALVES, SEEDS)), protocol, False, models.seconds)


def query_losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of each query."""
    with torch.no_grad():
        return nn.functional.cross_entropy(model(x), y, reduction="none")


def main() -> None:
    """Train what isn't there yet."""
    for name in NAMES:
        one, found = study(name), truth(name)
        x, y, *queries = one.examples
        train, held = query_losses(given(name), x, y).mean(), query_losses(given(name), *queries).mean()
        spread = found.outcomes.mean(1).std(0).mean()
        print(f"{name}: n {one.n}, loss {train:.3f}, of queries {held:.3f} ± {spread:.3f} over halves", flush=True)


if __name__ == "__main__":
    main()
