"""What unlearning did, on data that had no part in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight.objective import Objective
from upweight.predictions import Predictions, given_labels, predictions


@dataclass(frozen=True, eq=False)
class UnlearningReport:
    """Before and after, and beside a retrained model if one was given.

    Attributes
    ----------
    removed, remaining
        Accuracy on test examples of the classes that were removed (of the examples that change, for a relabelling), and
        on all others: before, after, retrained (nan: not given, or none).
    losses
        Mean loss on the remaining test examples: before, after, retrained.
    distance
        Mean total variation between the predicted probabilities and the retrained model's, over all test examples:
        before and after (nan: no retrained model, or no probabilities).
    membership
        Advantage of the best threshold on the loss in telling removed training examples from unseen ones of the same
        classes: before and after. 0: they can't be told apart.
    seconds
        Of unlearning, and of retraining where they were given (else nan).
    """

    removed: tuple[float, float, float]
    remaining: tuple[float, float, float]
    losses: tuple[float, float, float]
    distance: tuple[float, float]
    membership: tuple[float, float]
    seconds: tuple[float, float]

    def __repr__(self) -> str:
        lines = [f"{'':28}{'before':>10}{'after':>10}{'retrained':>11}"]
        for name, values in (
            ("accuracy, removed", self.removed),
            ("accuracy, remaining", self.remaining),
            ("loss, remaining", self.losses),
            ("distance to retrained", (*self.distance, 0.0)),
            ("membership advantage", (*self.membership, float("nan"))),
            ("seconds", (float("nan"), *self.seconds)),
        ):
            cells = ("–" if np.isnan(value) else f"{value:.4f}" for value in values)
            widths = (10, 10, 11)
            lines.append(f"{name:28}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True)))
        return "\n".join(lines)


def compared(
    before: Objective,
    after: Objective,
    retrained: Objective | None,
    removed: Any,
    test: Any,
    seconds: tuple[float, float],
) -> UnlearningReport:
    """Judge on test examples, in the form of the training data.

    ``removed``: positions of the training examples that went.
    """
    said = [predictions(each, test) for each in (before, after)]
    ideal = None if retrained is None else predictions(retrained, test)
    gone = given_labels(before)[removed].unique()
    of_gone = torch.isin(said[0].given, gone)
    three = [*said, ideal]
    losses = [(float("nan") if one is None else _mean(one.losses[~of_gone])) for one in three]
    members = [predictions(each, before.data.take(removed)).losses for each in (before, after)]
    return UnlearningReport(
        removed=_triple([_accuracy(one, of_gone) for one in three]),
        remaining=_triple([_accuracy(one, ~of_gone) for one in three]),
        losses=_triple(losses),
        distance=(_distance(said[0], ideal), _distance(said[1], ideal)),
        membership=(
            membership_advantage(members[0], said[0].losses[of_gone]),
            membership_advantage(members[1], said[1].losses[of_gone]),
        ),
        seconds=seconds,
    )


def membership_advantage(members: Float[Tensor, " m"], others: Float[Tensor, " k"]) -> float:
    """max over thresholds t of P(ℓ ≤ t | member) − P(ℓ ≤ t | not), by the loss (Yeom et al. 2018); nan of none."""
    if not len(members) or not len(others):
        return float("nan")
    # What Kolmogorov and Smirnov compare two samples by, on one side.
    seen, unseen = (losses.double().cpu().numpy() for losses in (members, others))
    from scipy import stats  # half a second, which other tasks don't need

    return float(stats.ks_2samp(seen, unseen, alternative="greater", method="asymp").statistic)


def _accuracy(said: Predictions | None, chosen: Tensor) -> float:
    return float("nan") if said is None else _mean((~said.wrong)[chosen].double())


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else float("nan")


def _triple(values: list[float]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]


def _distance(said: Predictions, ideal: Predictions | None) -> float:
    if ideal is None or said.probabilities is None or ideal.probabilities is None:
        return float("nan")
    return float((said.probabilities - ideal.probabilities).abs().sum(1).mean() / 2)
