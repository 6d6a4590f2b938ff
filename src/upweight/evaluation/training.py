"""Training from scratch as the user does it, once per seed and subset of the training data."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from upweight import kinds, retraining, scalars
from upweight.errors import InputError
from upweight.executors import Executor
from upweight.objective import Objective
from upweight.retraining.workers import Train


@dataclass(frozen=True)
class Training:
    """How the model itself was trained.

    Attributes
    ----------
    train
        ``train(indices, seed)``: trains on these training examples, ``[size]``, and returns the ``nn.Module`` in eval
        mode, or its parameters.
    seeds
        Every model is trained once per seed.
    workers, folder, executor
        Processes to train in, or an executor, and where finished models are kept; see
        `upweight.retraining.train_many`.
    """

    train: Train
    seeds: Sequence[int] = (0,)
    workers: int = 0
    folder: str | os.PathLike[str] | None = None
    executor: Executor | None = None

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if not callable(self.train):
            raise InputError(f"train: a function (indices, seed) -> trained model; got {self.train!r}")
        if isinstance(self.seeds, str) or not isinstance(self.seeds, Collection) or not len(self.seeds):
            raise InputError(f"seeds: give a list of one or more to train with, such as (0, 1); got {self.seeds!r}")
        for seed in self.seeds:
            scalars.seed("seeds", seed)

    def models(self, objective: Objective, subsets: Sequence[Int[Tensor, " _"]]) -> Iterator[Objective]:
        """The objective at each trained model, its buffers included: all subsets of the first seed, then the next."""
        jobs = [(subset, scalars.seed("seeds", seed)) for seed in self.seeds for subset in subsets]
        trained = retraining.train_many(
            self.train,
            jobs,
            model=objective.model,
            workers=self.workers,
            folder=self.folder,
            executor=self.executor,
        )
        for number in range(len(trained)):
            yield objective.replace(model=trained.model(number))


def as_training(given: Train | Training) -> Training:
    """A function alone is trained with one seed."""
    return given if isinstance(given, Training) else Training(given)
