"""How attackable a model is: what `attack` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from upweight.evaluation.bootstrap import Estimate, Interval
from upweight.optional import imported
from upweight.tasks.attacks.levers import Levers
from upweight.tasks.attacks.settings import Climb

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Attack:
    """Attacks on queries through training images whose stored bytes stay as they are.

    Attributes
    ----------
    targets
        Positions of the queries that each attack aims at, ``[attacks, t]``; t is 1 unless they are attacked together.
    positions
        Training images changed by each attack, ``[attacks, count]``.
    flipped
        Which targets the retrained model predicts wrongly, ``[attacks, t]``.
    steps
        Steps taken by each attack, ``[attacks]``.
    probabilities
        p(true label) of the targets after each step, from 0 on, ``[attacks, steps + 1, t]``; nan after the last.
    changes
        Of the images of the first attacks, in levels, ``[kept, count, …]``.
    stored
        The same images as they were, in levels, ``[kept, count, …]``.
    levers
        The training images that move the targets most.
    already_wrong
        Queries that were left out since they are predicted wrongly without an attack.
    settings
        Step, steps at most, and the box.
    ids
        Names of the training images, ``[train]``.
    query_ids
        Names of all queries, ``[queries]``.
    seconds
        Wall time of ranking and attacks.
    """

    targets: Int[Tensor, "attacks t"]
    positions: Int[Tensor, "attacks count"]
    flipped: Bool[Tensor, "attacks t"]
    steps: Int[Tensor, " attacks"]
    probabilities: Float[Tensor, "attacks steps t"]
    changes: Float[Tensor, "kept count ..."]
    stored: UInt8[Tensor, "kept count ..."]
    levers: Levers
    already_wrong: int
    settings: Climb
    ids: np.ndarray
    query_ids: np.ndarray
    seconds: float

    @property
    def count(self) -> int:
        """Training images changed by each attack."""
        return self.positions.shape[1]

    def share(self, level: float = 0.95) -> Estimate:
        """Share of the targets that were flipped, with Wilson's interval of a proportion (Wilson 1927)."""
        return wilson(int(self.flipped.sum()), self.flipped.numel(), level)

    def before(self) -> Float[Tensor, "attacks t"]:
        """p(true label) of the targets under the model as it is."""
        return self.probabilities[:, 0]

    def after(self) -> Float[Tensor, "attacks t"]:
        """p(true label) of the targets after the last step."""
        rows = torch.arange(len(self.steps))
        return self.probabilities[rows, self.steps]

    def perturbed(self, number: int) -> Float[Tensor, "count ..."]:
        """The changed images of one of the first attacks, as levels; rounded, they are the stored bytes."""
        return self.stored[number].to(self.changes.dtype) + self.changes[number]

    def to_pandas(self) -> pd.DataFrame:
        """One row per attack and target."""
        with imported("tables", "Attack.to_pandas"):
            import pandas as pd
        t = self.targets.shape[1]
        changed = [", ".join(map(str, self.ids[row])) for row in self.positions.numpy()]
        return pd.DataFrame(
            {
                "query": self.query_ids[self.targets.numpy()].reshape(-1),
                "images": np.repeat(changed, t),
                "flipped": self.flipped.numpy().reshape(-1),
                "steps": np.repeat(self.steps.numpy(), t),
                "p_before": self.before().numpy().reshape(-1),
                "p_after": self.after().numpy().reshape(-1),
            }
        )

    def __repr__(self) -> str:
        share = self.share()
        low, high = share.interval.low, share.interval.high
        images = "1 training image" if self.count == 1 else f"{self.count} training images"
        left_out = f"; {self.already_wrong} more are wrong without an attack" if self.already_wrong else ""
        top = self.levers.to_pandas().head(5)
        return "\n".join(
            [
                f"Attack: {int(self.flipped.sum()):,} of {self.flipped.numel():,} predictions flipped by changing "
                f"{images}: {share.value:.0%} (95 % interval {low:.0%} … {high:.0%}){left_out}",
                f"  no level moved by more than {self.settings.box.radius:g} of 255, so every stored byte is as it was",
                f"  the 10 strongest of {len(self.ids):,} training images hold {self.levers.concentration(10):.0%} of "
                "the influence",
                "  strongest levers: "
                + ", ".join(f"{row[0]} (first of {row[1]})" for row in top[["id", "first"]].to_numpy() if row[1]),
            ]
        )


def wilson(successes: int, trials: int, level: float = 0.95) -> Estimate:
    """A share with Wilson's interval."""
    from scipy.stats import binomtest  # half a second, which other tasks don't need

    interval = binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Estimate(successes / trials, Interval(float(interval.low), float(interval.high), level))
