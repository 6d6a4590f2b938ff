"""The queries' losses after training on random halves of the passages, which every score is held against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from platformdirs import user_cache_path
from torch import Tensor, nn

import upweight as uw
from experiments.language.passages import QUICK, Passages
from experiments.language.training import State, train
from upweight.evaluation import Training

MODELS = (0,) if QUICK else (0, 1)
"""Seeds of the models that are explained, each beside retrainings of its own seeds."""
SUBSETS = 4 if QUICK else 40
FOLDER = user_cache_path("upweight") / "experiments" / "language-trainings"


@dataclass(frozen=True, eq=False)
class Learner:
    """``train(indices, seed)`` as `upweight.retraining` calls it."""

    start: State
    passages: Int[Tensor, "train length"]

    def __call__(self, indices: Int[Tensor, " size"], seed: int) -> nn.Module:
        """The model trained on these passages."""
        return train(self.start, self.passages, indices, seed).model


def retraining_seeds(model: int) -> tuple[int, int]:
    """Two that no other model has."""
    return 10 * (model + 1), 10 * (model + 1) + 1


def training(start: State, given: Passages, seeds: tuple[int, ...]) -> Training:
    """What is finished stays in `FOLDER`."""
    return Training(Learner(start, given.train), seeds=seeds, folder=FOLDER)


def halves(n: int, model: int) -> Int[Tensor, "subsets size"]:
    """Other halves for each model."""
    return uw.retraining.random_halves(n, SUBSETS, seed=model)


def outcomes(
    objective: uw.Objective, asked: Int[Tensor, "queries length"], given: Passages, start: State, model: int
) -> Float[Tensor, "subsets seeds queries"]:
    """Losses of some passages after each retraining."""
    seeds, queries = retraining_seeds(model), objective.queries(batch(asked))
    members = list(halves(len(given.train), model))
    models = training(start, given, seeds).models(objective, members)
    losses = torch.stack([each.losses(queries) for each in models])
    return losses.detach().unflatten(0, (len(seeds), len(members))).transpose(0, 1)


def batch(tokens: Int[Tensor, "n length"]) -> dict[str, Tensor]:
    """As `uw.losses.CausalLM` takes them."""
    return {"input_ids": tokens, "labels": tokens}
