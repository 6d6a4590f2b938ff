"""Is a selection worth its examples? Models retrained on it, on random subsets of its size and on everything."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import plots, scalars
from upweight.data import Data
from upweight.errors import InputError
from upweight.evaluation import Bootstrap, Estimate, Training
from upweight.evaluation.training import as_training
from upweight.kept import random_states_kept
from upweight.objective import Objective
from upweight.optional import imported
from upweight.retraining.workers import Train

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RANDOM, EVERYTHING = "random subsets", "everything"


@dataclass(frozen=True, eq=False)
class SelectionComparison:
    """Losses on held-out examples of models trained on subsets of a pool.

    Attributes
    ----------
    losses
        For each selection, the random subsets and everything, ``[models, held_out]``: a model for each seed (and draw).
    size
        Examples in each subset.
    unit
        Of the loss.
    seconds
        Wall time of the training.
    bootstrap
        How intervals are made.
    """

    losses: dict[str, Float[Tensor, "models held_out"]]
    size: int
    unit: str
    seconds: float
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def mean(self, name: str) -> Estimate:
        """Mean loss, with a bootstrap interval over models and held-out examples."""
        return self.bootstrap.of_table(self._of(name).double().cpu().numpy())

    def gain(self, name: str, over: str = RANDOM) -> Estimate:
        """By how much a selection's loss is below another's on the same held-out examples, by default random subsets'.

        Models of both are averaged first where their numbers differ; the interval is over held-out examples and, where
        they don't differ, over seeds.
        """
        first, second = self._of(name), self._of(over)
        if len(first) != len(second):
            first, second = first.mean(0, keepdim=True), second.mean(0, keepdim=True)
        return self.bootstrap.of_table((second - first).double().cpu().numpy())

    def _of(self, name: str) -> Float[Tensor, "models held_out"]:
        if name not in self.losses:
            raise InputError(f"name: give one of {list(self.losses)}; got {scalars.shown(name)}")
        return self.losses[name]

    def figure(self, title: str | None = None) -> Figure:
        """Mean loss of each with its interval."""
        found = {name: self.mean(name) for name in self.losses}
        several = next(iter(self.losses.values())).shape[1] > 1
        ends = [(e.interval.low, e.interval.high) if several else (e.value, e.value) for e in found.values()]
        return plots.estimates(
            list(found),
            [each.value for each in found.values()],
            [low for low, _ in ends],
            [high for _, high in ends],
            xlabel=f"Mean loss on held-out examples ({self.unit})",
            note=f"{self.size} examples in each subset · {sum(map(len, self.losses.values()))} models trained",
            title=title,
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row per set of models: number of models, mean loss and its interval, gain over random subsets."""
        with imported("tables", "SelectionComparison.to_pandas"):
            import pandas as pd
        rows = []
        for name, values in self.losses.items():
            mean, gain = self.mean(name), self.gain(name)
            rows.append(
                {
                    "trained on": name,
                    "models": len(values),
                    "loss": mean.value,
                    "low": mean.interval.low,
                    "high": mean.interval.high,
                    "gain": gain.value,
                    "gain low": gain.interval.low,
                    "gain high": gain.interval.high,
                }
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        lines = [
            f"Mean loss on {next(iter(self.losses.values())).shape[1]} held-out examples [{self.unit}], trained on "
            f"{self.size} examples, {self.seconds:.1f} s"
        ]
        for name, values in self.losses.items():
            below = "" if name == RANDOM else f"; below random subsets by {self.gain(name)}"
            lines.append(f"  {name}: {self.mean(name)}, {len(values)} models{below}")
        return "\n".join(lines)


@random_states_kept()
def compared(
    objective: Objective,
    selections: Mapping[str, Int[Tensor, " _"]],
    data: Data,
    train: Train | Training,
    *,
    size: int,
    draws: int,
    everything: bool,
    seed: int,
) -> SelectionComparison:
    """Train on every subset with every seed of the training."""
    generator, training = scalars.generator(seed), as_training(train)
    random = [torch.randperm(objective.n, generator=generator)[:size] for _ in range(draws)]
    whole = [torch.arange(objective.n)] if everything else []
    subsets = [*selections.values(), *random, *whole]
    owners = np.array([*selections, *[RANDOM] * draws, *[EVERYTHING] * len(whole)])
    started = time.perf_counter()
    found = [model.losses(data).detach() for model in training.models(objective, subsets)]
    rows = torch.stack(found).reshape(len(training.seeds), len(subsets), len(data))
    losses = {name: rows[:, torch.from_numpy(owners == name)].flatten(0, 1) for name in dict.fromkeys(owners.tolist())}
    unit = getattr(objective.loss, "unit", "loss")
    return SelectionComparison(losses, size, unit, time.perf_counter() - started)
