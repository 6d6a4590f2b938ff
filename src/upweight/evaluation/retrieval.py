"""Fact tracing: do scores put the training examples that entail a fact first?"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from upweight import scalars
from upweight.evaluation.bootstrap import Bootstrap, Estimate, Interval
from upweight.evaluation.metric import Metric, Record
from upweight.evaluation.relevance import groups, rows_of_relevant, rows_of_scores


@dataclass(frozen=True, eq=False)
class RankingResult:
    """A figure of merit of rankings: its mean over queries, and each query's.

    Attributes
    ----------
    name
        Which figure.
    value
        The mean over queries.
    per_query
        ``[queries]``.
    interval
        Bootstrap over queries (of one ranking of all training data, over examples).
    at_random
        What a random order has on average.
    """

    name: str
    value: float
    per_query: Float[Tensor, " queries"]
    interval: Interval
    at_random: float

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return Estimate(self.value, self.interval)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return (
            f"{self.name} {self.value:.4f}, {self.interval.level:.0%} {self.interval}, {len(self.per_query):,} queries "
            f"({self.at_random:.4f} at random)"
        )


class _OverQueries(Metric):
    """The mean over queries of what a query's ranking says, with a bootstrap interval over queries."""

    def __init__(self, *, resamples: int = 300, level: float = 0.95, seed: int = 0):
        super().__init__()
        self.bootstrap = Bootstrap(resamples, level, seed)

    def settings(self) -> Record:
        """Nothing: the records are each query's value."""
        return {}

    def update(self, scores: Any, relevant: Any) -> None:
        """Take the rankings of some queries.

        Parameters
        ----------
        scores
            ``[queries, train]``. An `Attribution` says by its quantity which sign is helpful; a plain array is taken
            to be large for what should come first. Equal scores are in random order: what that has on average counts.
        relevant
            ``[queries, train]`` booleans, or for each query the positions of its relevant examples, any number.

        Raises
        ------
        InputError
            If shapes don't fit, a score isn't finite, or a query has no relevant example, or no other.
        """
        rows = rows_of_scores(scores)
        truth = rows_of_relevant(relevant, rows.shape)
        found = [self._of(*groups(*pair)) for pair in zip(rows, truth, strict=True)]
        chance = [self._of(np.array([len(row)]), np.array([row.sum()])) for row in truth]
        self._records.append({"values": _double(found), "chance": _double(chance)})

    def compute(self) -> RankingResult:
        """The mean over all queries so far."""
        values = self._gathered("values")
        return RankingResult(
            self._name(),
            float(values.mean()),
            values,
            self.bootstrap.of_mean(values.numpy()),
            float(self._gathered("chance").mean()),
        )

    @abstractmethod
    def _of(self, sizes: np.ndarray, relevant: np.ndarray) -> float:
        """Of one query, from numbers of examples and of relevant ones in groups of equal scores, the highest first."""

    @abstractmethod
    def _name(self) -> str: ...


def _double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class MRR(_OverQueries):
    """Mean reciprocal rank of the first relevant training example (Voorhees 1999; for facts Akyürek et al. 2022).

    Parameters
    ----------
    resamples, level, seed
        Of the bootstrap over queries; see `Bootstrap`.

    Examples
    --------
    >>> metric = MRR()
    >>> metric.update([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]], [[0], [0, 1]])  # the first relevant: rank 1, rank 2
    >>> metric.compute().value
    0.75
    """

    def _of(self, sizes: np.ndarray, relevant: np.ndarray) -> float:
        first = int((relevant > 0).argmax())
        before, size, hits = int(sizes[:first].sum()), int(sizes[first]), int(relevant[first])
        ways = comb(size, hits)
        at = range(1, size - hits + 2)  # the first relevant one of the group is j-th in so many of its orders
        return sum(comb(size - j, hits - 1) / ways / (before + j) for j in at)

    def _name(self) -> str:
        return "MRR"


class RecallAtK(_OverQueries):
    """Share of a query's relevant training examples that are among its k first (Akyürek et al. 2022).

    Where more than k are relevant it stays below 1, as in the literature.

    Parameters
    ----------
    k
        How many are looked at.
    resamples, level, seed
        Of the bootstrap over queries; see `Bootstrap`.

    Examples
    --------
    >>> metric = RecallAtK(2)
    >>> metric.update([[0.3, 0.2, 0.1]], [[0, 2]])
    >>> metric.compute().value
    0.5
    """

    def __init__(self, k: int = 10, *, resamples: int = 300, level: float = 0.95, seed: int = 0):
        super().__init__(resamples=resamples, level=level, seed=seed)
        self.k = scalars.whole("k", k)

    def settings(self) -> Record:
        """How many are looked at."""
        return {"k": torch.tensor(self.k)}

    def _of(self, sizes: np.ndarray, relevant: np.ndarray) -> float:
        seen = np.clip(self.k - (np.cumsum(sizes) - sizes), 0, sizes)
        return float((relevant * seen / sizes).sum() / relevant.sum())

    def _name(self) -> str:
        return f"Recall@{self.k}"


class AUPRC(Metric):
    """Area under the curve of precision over recall, as average precision: what filtering is judged by.

    Each row of scores is one ranking, and its relevant examples are those that should be kept, or should go (DATE-LM,
    2025, has it for toxic examples). Average precision is Σ (recall_i − recall_{i−1})·precision_i over different
    scores, as scikit-learn's; a random order has the share of relevant examples.

    Parameters
    ----------
    resamples, level, seed
        Of the bootstrap: over rankings where there are several; over training examples, relevant ones and others
        apart, where there is one.

    Examples
    --------
    >>> metric = AUPRC()
    >>> metric.update([0.4, 0.3, 0.2, 0.1], [True, False, True, False])
    >>> round(metric.compute().value, 4)
    0.8333
    """

    def __init__(self, *, resamples: int = 300, level: float = 0.95, seed: int = 0):
        super().__init__()
        self.bootstrap = Bootstrap(resamples, level, seed)

    def settings(self) -> Record:
        """Nothing: the records are the scores themselves."""
        return {}

    def update(self, scores: Any, relevant: Any) -> None:
        """Take some rankings.

        Parameters
        ----------
        scores
            ``[train]`` or ``[rankings, train]``, large for what should come first; an `Attribution` says by its
            quantity which sign is helpful.
        relevant
            Booleans of the same shape, or for each ranking the positions of its relevant examples.

        Raises
        ------
        InputError
            As `MRR.update`.
        """
        rows = rows_of_scores(scores)
        given = [relevant] if np.ndim(getattr(scores, "scores", scores)) == 1 else relevant
        truth = rows_of_relevant(given, rows.shape)
        for row, wanted in zip(rows, truth, strict=True):
            self._records.append({"scores": torch.from_numpy(row.copy()), "relevant": torch.from_numpy(wanted.copy())})

    def compute(self) -> RankingResult:
        """The mean over all rankings so far."""
        pairs = [(record["scores"].numpy(), record["relevant"].numpy()) for record in self._updates()]
        ones = [np.ones((1, len(scores))) for scores, _ in pairs]
        found = np.array(
            [float(average_precision(*pair, one)[0]) for pair, one in zip(pairs, ones, strict=True)], dtype=float
        )
        value = float(found.mean())
        interval = self.bootstrap.of_mean(found) if len(pairs) > 1 else self._over_examples(*pairs[0], value)
        chance = float(np.mean([relevant.mean() for _, relevant in pairs]))
        return RankingResult("AUPRC", value, torch.from_numpy(found), interval, chance)

    def _over_examples(
        self, scores: Float[np.ndarray, " train"], relevant: Bool[np.ndarray, " train"], value: float
    ) -> Interval:
        generator = self.bootstrap.generator()
        counts = np.zeros((self.bootstrap.resamples, len(scores)))
        for kind in (relevant, ~relevant):
            size = int(kind.sum())
            counts[:, kind] = generator.multinomial(size, np.full(size, 1 / size), self.bootstrap.resamples)
        found = self.bootstrap.interval(average_precision(scores, relevant, counts), value, 1)
        return Interval(max(found.low, 0.0), found.high, found.level)


def average_precision(
    scores: Float[np.ndarray, " train"],
    relevant: Bool[np.ndarray, " train"],
    counts: Float[np.ndarray, "resamples train"],
) -> Float[np.ndarray, " resamples"]:
    """Of a ranking in which each example stands so many times, once for each row of counts."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    seen = np.cumsum(counts[:, order], axis=1)[:, ends]
    hits = np.cumsum((counts * relevant)[:, order], axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0) / hits[:, -1:]
    return (gained * hits / np.maximum(seen, 1)).sum(1)
