"""What a ground truth of retraining is a truth of; a rank correlation means little without it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ProtocolName = Literal["averaged seeds", "same run"]


@dataclass(frozen=True)
class Protocol:
    """How models were retrained, and where the scores that they judge are linearised.

    Attributes
    ----------
    name
        *averaged seeds*: every model has a first θ and an order of batches of its own, and outcomes are averaged over
        seeds: what the procedure does. *same run*: seed, first θ and batches are those of the model explained, and
        examples left out have weight 0 in their batch: what that run does. The second is reached far more closely
        (replay), the first is what users of a training procedure ask for; figures of one say nothing of the other.
    kept
        Share of the training examples that a subset keeps, the mean over subsets.
    seeds
        Models per subset.
    expansion
        Mean weight w̄ at which the scores are linearised (`upweight.expansion`); nan where a plain array doesn't say.
    """

    name: ProtocolName
    kept: float
    seeds: int
    expansion: float = math.nan

    @property
    def fixed_order(self) -> bool:
        """Whether all models see the same batches in the same order."""
        return self.name == "same run"

    def __str__(self) -> str:
        seeds = f"seeds per subset: {self.seeds}" if not self.fixed_order else "one seed, batches in a fixed order"
        where = "" if math.isnan(self.expansion) else f", scores expanded at weight {self.expansion:g}"
        return f"{self.name} ({self.kept:.3g} kept, {seeds}{where})"
