"""Agreement of predicted with actual changes, in three figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from upweight import kinds
from upweight.errors import InputError


@dataclass(frozen=True)
class Agreement:
    """Predicted against actual changes.

    Attributes
    ----------
    pearson, spearman
        Correlations over all pairs; nan where either side is constant.
    slope
        Of actual on predicted (least squares with intercept): 1 where magnitudes are right, above 1 where the
        predictions are too small.
    pairs
        Number of pairs compared.
    """

    pearson: float
    spearman: float
    slope: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"Pearson {self.pearson:.4f}, Spearman {self.spearman:.4f}, slope {self.slope:.4f} over {self.pairs} pairs"
        )


def agreement(predicted: Any, actual: Any) -> Agreement:
    """Compare two arrays with as many changes, pair by pair.

    Parameters
    ----------
    predicted, actual
        Finite numbers of any shape, flattened; the slope is of ``actual`` on ``predicted``.

    Raises
    ------
    InputError
        If their numbers differ, there are fewer than two pairs, or a value isn't finite.
    """
    x, y = (
        kinds.numbers(name, values).detach().cpu().double().numpy().ravel()
        for name, values in (("predicted", predicted), ("actual", actual))
    )
    if x.shape != y.shape or len(x) < 2:
        raise InputError(f"predicted, actual: need two or more pairs; got shapes {x.shape} and {y.shape}")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Agreement(math.nan, math.nan, math.nan, len(x))
    from scipy import stats  # half a second, which scores don't need

    line: Any = stats.linregress(x, y)
    rank: Any = stats.spearmanr(x, y)
    return Agreement(float(line.rvalue), float(rank.statistic), float(line.slope), len(x))
