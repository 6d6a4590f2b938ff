"""A user's training function that takes weights in place of positions: trained at one weight, or with some at zero."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from upweight.errors import InputError
from upweight.executors import Executor
from upweight.objective import Objective
from upweight.retraining.trained import Trained
from upweight.retraining.workers import Train, TrainingFailedError, train_many

UNABLE = (IndexError, TypeError, KeyError, ValueError, RuntimeError)
"""What a function that takes its first argument for positions raises at weights."""
HOW = (
    "call train(weights, seed) with a weight for every training example, a tensor [train] of floats, and multiply each "
    "example's loss by its own: (weights[batch] * losses).mean(), the penalty as it is"
)


@dataclass(frozen=True)
class AtWeight:
    """``train`` as a function of positions: examples at these have a weight, all others 0.

    A batch then holds what it held, in the same order, whoever is left out.
    """

    train: Train
    n: int
    weight: float = 1.0

    def __call__(self, indices: Int[Tensor, " size"], seed: int) -> object:
        """Train with the weights of these positions."""
        weights = torch.zeros(self.n)
        weights[indices] = self.weight
        return self.train(weights, seed)


def trained_at(
    train: Train,
    jobs: list[tuple[Tensor, int]],
    objective: Objective,
    *,
    weight: float = 1.0,
    workers: int = 0,
    folder: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
) -> Trained:
    """A model per job, the examples at its positions weighted; see `upweight.retraining.train_many`.

    Raises
    ------
    InputError
        If ``train`` can't take weights, and how it would.
    """
    weighted = AtWeight(train, objective.n, weight)
    with taking_weights():
        return train_many(weighted, jobs, model=objective.model, workers=workers, folder=folder, executor=executor)


@contextmanager
def taking_weights() -> Iterator[None]:
    """Say what a training function needs that fails at weights.

    Raises
    ------
    InputError
        In place of the failure, with its words.
    """
    try:
        yield
    except TrainingFailedError as error:
        if isinstance(error.__cause__, UNABLE):
            raise InputError(f"train: it failed when it was given weights. Let it take them: {HOW}. {error}") from error
        raise


def refuse_unlike(first: Tensor, second: Tensor, seed: int) -> None:
    """Refuse a training that isn't the same twice with one seed.

    Raises
    ------
    InputError
        With the difference, largest and relative.
    """
    apart = (first - second).abs()
    if bool((apart > 0).any()):
        share = float((first - second).norm() / first.norm())
        raise InputError(
            f"train: two runs with seed {seed} differ, by up to {float(apart.max()):.2g} in a parameter and "
            f"{share:.2g} of ‖θ‖. Let the seed decide all that is random (torch.manual_seed(seed), a generator of its "
            "own for the order of the examples, no dropout seeded elsewhere), or say check=False"
        )
