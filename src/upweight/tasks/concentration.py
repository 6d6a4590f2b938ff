"""How much of the influence a group of training examples holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Concentration:
    """How much of the influence on one query, or on their mean, the group's training examples hold.

    Attributes
    ----------
    strongest, mean, weakest
        The largest, mean and smallest |influence| of the group's members, over the largest of all others.
    share
        Of the sum of |influence| over all training examples, what the group holds.
    expected_share
        What it would hold if all examples had the same.
    ranks
        Ranks of the members by |influence|, from 1, ascending.
    """

    strongest: float
    mean: float
    weakest: float
    share: float
    expected_share: float
    ranks: tuple[int, ...]


def concentration(influence: Float[np.ndarray, " train"], group: Bool[np.ndarray, " train"]) -> Concentration:
    """How far the group's members stand out by |influence|."""
    sizes = np.abs(influence)
    mine, others = sizes[group], sizes[~group]
    largest = float(others.max())
    with np.errstate(divide="ignore", invalid="ignore"):
        strongest, mean, weakest = (np.array([mine.max(), mine.mean(), mine.min()]) / largest).tolist()
    ranks = np.empty(len(sizes), dtype=int)
    ranks[np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
    total = float(sizes.sum())
    return Concentration(
        strongest,
        mean,
        weakest,
        float(mine.sum()) / total if total else float("nan"),
        len(mine) / len(sizes),
        tuple(sorted(ranks[group].tolist())),
    )
