"""Which step length is best, judged on training-side examples that no step was computed from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Data
from upweight.gradients.autograd import substituted
from upweight.losses import as_split
from upweight.objective import Objective
from upweight.tasks.predictions import predictions


@dataclass(frozen=True, eq=False)
class Judgement:
    """Accuracy on examples that should stay right, and on those that should change.

    Attributes
    ----------
    stays
        Positions of training examples whose labels should go on being predicted.
    changes
        Positions of those that change.
    replaced
        The changed examples as they should be predicted from now on; None: as anything but their label.
    """

    objective: Objective
    stays: Int[Tensor, " s"]
    changes: Int[Tensor, " c"]
    replaced: Data | None = None

    def figures(self, params: Float[Tensor, " p"]) -> tuple[float, float]:
        """Accuracy on what stays, and on what changes: with its old labels, or its new ones."""
        data = self.objective.data
        kept = accuracy(self.objective, params, data, self.stays)
        if self.replaced is None:
            return kept, accuracy(self.objective, params, data, self.changes)
        return kept, accuracy(self.objective, params, self.replaced, None)

    def score(self, params: Float[Tensor, " p"]) -> float:
        """What stays right, plus what changed as it should (1 − accuracy on forgotten labels, or that on new ones)."""
        kept, other = self.figures(params)
        return kept + (1 - other if self.replaced is None else other)


def accuracy(
    objective: Objective, params: Float[Tensor, " p"], data: Data, positions: Int[Tensor, " k"] | None
) -> float:
    """Share of examples whose label has the largest output, at θ; nan of none."""
    outputs_of = substituted(objective.model, as_split(objective.loss).outputs)
    named = objective.layout.unflatten(params)
    right, count = 0, 0
    for _, batch in data.batches(positions, objective.batch_size):
        with torch.no_grad():
            said = predictions(objective, batch, outputs=outputs_of(named, batch))
        right += int((~said.wrong).sum())
        count += len(said.given)
    return right / count if count else float("nan")
