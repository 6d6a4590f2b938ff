"""Agreement of scores with what leaving examples out one by one really did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.evaluation.agreement import Agreement, agreement
from upweight.evaluation.bootstrap import Bootstrap, Estimate, draw
from upweight.evaluation.correlation import (
    counted_ranks,
    mean_of_defined,
    order,
    pearson,
    slope,
    spearman,
)
from upweight.evaluation.metric import Metric, Record
from upweight.plots import checks


@dataclass(frozen=True, eq=False)
class LeaveOneOutResult:
    """Agreement over all pairs of query and example, and query by query.

    Attributes
    ----------
    pooled
        Pearson, Spearman and slope over all pairs, as plain numbers.
    pearson, spearman, slope
        The same with intervals, from resampling queries and, within each, its examples.
    mean_spearman, mean_overlap
        Means over queries, with intervals from resampling queries.
    query_pearson, query_spearman, query_slope
        Of each query, ``[queries]``; nan where one side is constant.
    overlap
        |top-k predicted ∩ top-k actual|/k of each query, ``[queries]``, by size of the change.
    top
        That k.
    chance
        The overlap of a random choice: k over the number of examples.
    """

    pooled: Agreement
    pearson: Estimate
    spearman: Estimate
    slope: Estimate
    mean_spearman: Estimate
    mean_overlap: Estimate
    query_pearson: Float[Tensor, " queries"]
    query_spearman: Float[Tensor, " queries"]
    query_slope: Float[Tensor, " queries"]
    overlap: Float[Tensor, " queries"]
    top: int
    chance: float

    def __repr__(self) -> str:
        return (
            f"Leave-one-out: {self.pooled}\n"
            f"  {self.pearson.interval.level:.0%} intervals: Pearson {self.pearson.interval}, "
            f"Spearman {self.spearman.interval}, slope {self.slope.interval}\n"
            f"  per query (n = {len(self.overlap):,}): Spearman {self.mean_spearman}, top-{self.top} overlap "
            f"{self.mean_overlap} ({self.chance:.3f} by chance)"
        )


class LeaveOneOut(Metric):
    """Agreement of predicted with actual changes when examples are left out one by one.

    Parameters
    ----------
    top
        k of the top-k overlap, the examples of largest |change|.
    resamples, level, seed
        Of the bootstrap; see `Bootstrap`.
    """

    def __init__(self, top: int = 10, *, resamples: int = 300, level: float = 0.95, seed: int = 0):
        super().__init__()
        self.top = scalars.whole("top", top)
        self.bootstrap = Bootstrap(resamples, level, seed)

    def settings(self) -> Record:
        """k of the overlap."""
        return {"top": torch.tensor(self.top)}

    def update(self, predicted: Any, actual: Any) -> None:
        """Take the predicted and actual changes of some queries, ``[queries, examples]`` each.

        Raises
        ------
        InputError
            If the shapes differ, from one another or in the number of examples from the updates before, a value
            isn't finite, or there are fewer examples than ``top`` or 2.
        """
        given = predicted.scores if isinstance(predicted, Attribution) else predicted
        x = np.atleast_2d(checks.numbers("predicted", given))
        y = np.atleast_2d(checks.numbers("actual", actual))
        if x.ndim != 2 or x.shape != y.shape:
            raise InputError(f"predicted, actual: got shapes {x.shape} and {y.shape}; give [queries, examples] twice")
        examples = self._records[0]["predicted"].shape[1] if self._records else x.shape[1]
        if x.shape[1] != examples:
            raise InputError(f"predicted: got {x.shape[1]} examples a query, but {examples} in the updates before")
        if examples < max(self.top, 2):
            raise InputError(f"predicted: {examples} examples a query; top-{self.top} overlap needs at least that many")
        self._records.append({"predicted": torch.from_numpy(x), "actual": torch.from_numpy(y)})

    def compute(self) -> LeaveOneOutResult:
        """The agreement over all queries so far; queries without any variation are counted by a warning."""
        predicted, actual = (self._gathered(name).numpy() for name in ("predicted", "actual"))
        pooled = agreement(predicted, actual)
        replicates = self._resampled(predicted, actual)

        def of_pairs(value: float, column: int, bound: float) -> Estimate:
            return Estimate(value, self.bootstrap.interval(replicates[:, column], value, bound))

        rho, overlap = spearman(predicted, actual), top_overlap(predicted, actual, self.top)
        return LeaveOneOutResult(
            pooled=pooled,
            pearson=of_pairs(pooled.pearson, 0, 1),
            spearman=of_pairs(pooled.spearman, 1, 1),
            slope=of_pairs(pooled.slope, 2, np.inf),
            mean_spearman=Estimate(mean_of_defined(rho, "leave-one-out"), self.bootstrap.of_mean(rho)),
            mean_overlap=Estimate(float(overlap.mean()), self.bootstrap.of_mean(overlap)),
            query_pearson=torch.from_numpy(pearson(predicted, actual)),
            query_spearman=torch.from_numpy(rho),
            query_slope=torch.from_numpy(slope(predicted, actual)),
            overlap=torch.from_numpy(overlap),
            top=self.top,
            chance=self.top / predicted.shape[1],
        )

    def _resampled(
        self, predicted: Float[np.ndarray, "queries examples"], actual: Float[np.ndarray, "queries examples"]
    ) -> Float[np.ndarray, "resamples 3"]:
        """Pearson, Spearman and slope over all pairs when queries, and the examples of each, are drawn again."""
        generator = self.bootstrap.generator()
        queries, examples = predicted.shape
        x, y = predicted.reshape(1, -1), actual.reshape(1, -1)
        orders = order(x), order(y)
        rows = []
        for drawn in draw(self.bootstrap.resamples, queries, generator):
            counts = (drawn[:, None] * draw(queries, examples, generator)).reshape(1, -1)
            rho = pearson(counted_ranks(orders[0], counts), counted_ranks(orders[1], counts), counts)
            rows.append([pearson(x, y, counts)[0], rho[0], slope(x, y, counts)[0]])
        return np.array(rows)


def top_overlap(
    predicted: Float[np.ndarray, "queries examples"], actual: Float[np.ndarray, "queries examples"], k: int
) -> Float[np.ndarray, " queries"]:
    """Share of the k examples of largest |actual| that are among the k of largest |predicted|; ties by position."""
    chosen = []
    for side in (predicted, actual):
        inside = np.zeros(side.shape, dtype=bool)
        np.put_along_axis(inside, np.argsort(-np.abs(side), axis=1, kind="stable")[:, :k], True, axis=1)
        chosen.append(inside)
    return (chosen[0] & chosen[1]).sum(1) / k
