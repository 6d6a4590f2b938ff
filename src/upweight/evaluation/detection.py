"""Detection of mislabelled examples: do the scores of flipped labels stand out?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from upweight import plots, scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.evaluation.bootstrap import Estimate, Interval
from upweight.evaluation.metric import Metric, Record
from upweight.optional import require
from upweight.plots import checks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Fractions of the training data checked at which recovery is reported."""


@dataclass(frozen=True, eq=False)
class MislabelResult:
    """How well the scores find flipped labels: means over updates (seeds, sets of flips), and each of them.

    Attributes
    ----------
    auc, average_precision
        Means with intervals from Student's t over updates; the interval is nan with one update.
    aucs, average_precisions
        Of each update, ``[updates]``.
    fractions
        Fractions of the training data checked, the most suspicious first, ``[fractions]``.
    recovery
        Share of the flipped labels found by then, for each update, ``[updates, fractions]``; among equal scores,
        what checking in random order finds on average.
    flipped_share
        Share of labels that are flipped, the mean over updates: the average precision of a random order.
    level
        Probability of the intervals.
    """

    auc: Estimate
    average_precision: Estimate
    aucs: Float[Tensor, " updates"]
    average_precisions: Float[Tensor, " updates"]
    fractions: Float[Tensor, " fractions"]
    recovery: Float[Tensor, "updates fractions"]
    flipped_share: float
    level: float

    def recovered(self) -> list[Estimate]:
        """Mean share of flips found at each of the fractions, with intervals as for the AUC."""
        return [_over_updates(column, self.level) for column in self.recovery.T.numpy()]

    def figure(self, title: str | None = None) -> Figure:
        """Mean recovery over the fraction checked, with its interval and the random order."""
        found, at = self.recovered(), [0.0, *self.fractions.tolist()]
        low, high = ([0.0, *(getattr(each.interval, end) for each in found)] for end in ("low", "high"))
        return plots.curves_with_bands(
            at,
            {"these scores": [0.0, *map(float, found)], "at random": at},
            {"these scores": (low, high)} if len(self.aucs) > 1 else {},
            xlabel="Training data checked (share of examples)",
            ylabel="Flipped labels found (share)",
            note=f"sets of flips: {len(self.aucs)} · {self.flipped_share:.1%} of labels · AUC = {float(self.auc):.3f}",
            title=title,
        )

    def __repr__(self) -> str:
        found = ", ".join(
            f"{share:.0%}: {float(e):.1%}" for share, e in zip(self.fractions, self.recovered(), strict=True)
        )
        return (
            f"Mislabel detection over {len(self.aucs)} updates: AUC {self.auc}, average precision "
            f"{self.average_precision} ({self.flipped_share:.3f} at random)\n  found by fraction checked: {found}"
        )


class MislabelDetection(Metric):
    """ROC AUC, average precision and recovery of flipped labels (Koh & Liang 2017, section 5.4).

    Parameters
    ----------
    fractions
        Fractions of the training data checked at which recovery is reported, increasing, in (0, 1].
    level
        Probability of the intervals.
    """

    def __init__(self, fractions: Sequence[float] = FRACTIONS, *, level: float = 0.95):
        super().__init__()
        require("tables", "MislabelDetection", "sklearn")
        given = checks.vector("fractions", fractions)
        if given.min() <= 0 or given.max() > 1 or (np.diff(given) <= 0).any():
            raise InputError(f"fractions: increasing shares of the training data above 0, up to 1; got {fractions!r}")
        scalars.number("level", level, above=0, below=1)
        self.fractions, self.level = given, level

    def settings(self) -> Record:
        """Nothing: the records are the scores themselves."""
        return {}

    def update(self, scores: Any, flipped: Any) -> None:
        """Take one set of flips (a seed): scores ``[train]``, higher for more suspicious, and ``[train]`` booleans.

        Raises
        ------
        InputError
            If lengths differ, a score isn't finite, or no label, or every label, is flipped.
        """
        values = checks.vector("scores", scores.scores if isinstance(scores, Attribution) else scores)
        truth = checks.mask("flipped", flipped)
        if truth.shape != values.shape:
            raise InputError(f"flipped: got {truth.size}, but there are {values.size} scores; give one for each")
        if truth.all():
            raise InputError(f"flipped: all {truth.size} are True, so there is nothing to tell apart")
        self._records.append({"scores": torch.from_numpy(values), "flipped": torch.from_numpy(truth)})

    def compute(self) -> MislabelResult:
        """The averages over all updates so far."""
        from sklearn.metrics import average_precision_score, roc_auc_score

        updates = [(record["scores"].numpy(), record["flipped"].numpy()) for record in self._updates()]
        aucs = np.array([roc_auc_score(truth, values) for values, truth in updates])
        precisions = np.array([average_precision_score(truth, values) for values, truth in updates])
        found = np.stack([recovered(values, truth, self.fractions) for values, truth in updates])
        return MislabelResult(
            auc=_over_updates(aucs, self.level),
            average_precision=_over_updates(precisions, self.level),
            aucs=torch.from_numpy(aucs),
            average_precisions=torch.from_numpy(precisions),
            fractions=torch.from_numpy(self.fractions),
            recovery=torch.from_numpy(found),
            flipped_share=float(np.mean([truth.mean() for _, truth in updates])),
            level=self.level,
        )


def recovered(
    scores: Float[np.ndarray, " train"], flipped: Bool[np.ndarray, " train"], fractions: Float[np.ndarray, " fractions"]
) -> Float[np.ndarray, " fractions"]:
    """Share of the flips found when each fraction has been checked, the highest scores first.

    Linear within a group of equal scores, as its random order is on average.
    """
    _, group = np.unique(-scores, return_inverse=True)
    checked = np.cumsum(np.bincount(group))
    found = np.cumsum(np.bincount(group, flipped))
    return np.interp(fractions * scores.size, np.append(0, checked), np.append(0, found)) / flipped.sum()


def _over_updates(shares: Float[np.ndarray, " updates"], level: float) -> Estimate:
    """Mean with Student's t interval within 0 … 1: seeds are too few to be resampled."""
    mean = float(shares.mean())
    if len(shares) < 2:
        return Estimate(mean, Interval(math.nan, math.nan, level))
    from scipy import stats  # half a second, which scores don't need

    half = float(stats.sem(shares) * stats.t.ppf((1 + level) / 2, len(shares) - 1))
    return Estimate(mean, Interval(max(mean - half, 0.0), min(mean + half, 1.0), level))
