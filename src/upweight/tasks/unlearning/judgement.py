"""Which step length is best, judged on training-side examples that no step was computed from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Data
from upweight.gradients.substituted import substituted
from upweight.losses import as_split
from upweight.objective import Objective
from upweight.predictions import Predictions, predictions

SUREST = 1e-6
"""Probabilities are kept so far from 0, so that no single example decides."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """How likely what is wanted is, on examples that should stay as they are and on those that should change.

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

    def score(self, params: Float[Tensor, " p"]) -> float:
        """Mean log-likelihood of the labels that stay, plus that of new labels, or of *not* the forgotten ones.

        Of losses without probabilities: the shares of examples of which that is so.
        """
        data = self.objective.data
        kept = wanted(self.objective, params, data, self.stays, True)
        if self.replaced is None:
            return kept + wanted(self.objective, params, data, self.changes, False)
        return kept + wanted(self.objective, params, self.replaced, None, True)


def wanted(
    objective: Objective, params: Float[Tensor, " p"], data: Data, positions: Int[Tensor, " k"] | None, right: bool
) -> float:
    """Mean log-likelihood, at θ, of predicting the labels, or of predicting anything else."""
    outputs_of = substituted(objective.model, as_split(objective.loss).outputs)
    named = objective.layout.unflatten(params)
    total, count = 0.0, 0
    for _, batch in data.batches(positions, objective.engine.rows):
        with torch.no_grad():
            values = _likelihoods(predictions(objective, batch, outputs=outputs_of(named, batch)), right)
        total += float(values.sum())
        count += len(values)
    return total / count


def _likelihoods(said: Predictions, right: bool) -> Float[Tensor, " examples"]:
    probability = said.probability(said.given)
    if probability is None:
        return (said.wrong ^ right).double()
    likely = probability.double() if right else 1 - probability.double()
    return likely.clamp_min(SUREST).log()
