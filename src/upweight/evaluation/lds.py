"""Linear datamodelling score: do sums of scores rank the models trained on subsets of the data?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import plots, scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.evaluation.bootstrap import Bootstrap, Interval, draw
from upweight.evaluation.correlation import counted_ranks, mean_of_defined, order, pearson, spearman
from upweight.evaluation.metric import Metric, Record
from upweight.evaluation.protocol import Protocol, ProtocolName
from upweight.evaluation.subsets import as_subsets
from upweight.plots import checks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class LDSResult:
    """The linear datamodelling score with its uncertainty and its ceiling.

    Attributes
    ----------
    lds
        Mean over queries of Spearman's ρ between the predicted effects of the subsets and their outcomes.
    per_query
        ρ of each query, ``[queries]``; nan where its predictions or outcomes are all equal.
    interval
        Bootstrap that resamples queries and subsets: where other queries *and* other subsets of the same kind would
        have put the figure.
    over_queries, over_subsets
        The same with one of the two held as it is.
    seed_agreement
        Mean ρ between the outcomes of two seeds, over pairs of seeds and queries; nan with one seed.
    ceiling
        What a perfect predictor of the expected outcome reaches about: √(k·r/(1 + (k−1)·r)) with k seeds averaged
        and r the seed agreement (Spearman–Brown); nan with one seed.
    subsets, seeds
        Numbers of subsets, and of seeds per subset.
    protocol
        What the outcomes are a truth of: share kept, seeds, order of batches, expansion.
    """

    lds: float
    per_query: Float[Tensor, " queries"]
    interval: Interval
    over_queries: Interval
    over_subsets: Interval
    seed_agreement: float
    ceiling: float
    subsets: int
    seeds: int
    protocol: Protocol

    def __float__(self) -> float:
        return self.lds

    def figure(self, title: str | None = None) -> Figure:
        """Distribution over queries, with the mean, its interval and the ceiling."""
        values = self.per_query[~self.per_query.isnan()]
        return plots.correlation_histogram(
            values,
            mean=(self.lds, self.interval.low, self.interval.high),
            ceiling=None if math.isnan(self.ceiling) else self.ceiling,
            quantity=f"Rank correlation with the outcomes of retraining, per query\n{self.protocol}",
            title=title,
        )

    def __repr__(self) -> str:
        level = f"{self.interval.level:.0%}"
        lines = [
            f"LDS {self.lds:.4f}, {level} {self.interval} over queries and subsets "
            f"(queries {self.over_queries}, subsets {self.over_subsets})",
            f"  {len(self.per_query):,} queries, {self.subsets:,} subsets, seeds per subset: {self.seeds}",
            f"  protocol: {self.protocol}",
        ]
        if not math.isnan(self.ceiling):
            lines.append(
                f"  seeds agree to {self.seed_agreement:.3f}: a perfect predictor reaches ≈ {self.ceiling:.3f}"
            )
        return "\n".join(lines)


class LDS(Metric):
    """Linear datamodelling score (Park et al. 2023, TRAK, definition 2.3; Ilyas et al. 2022).

    For a query q and models trained on subsets S of the data, the predicted outcome is linear in the scores τ:
    −Σ_{i∈S} τ(q, i) for scores of removal, +Σ for scores of adding. The score is Spearman's ρ, over subsets, between
    that and the measured outcome averaged over seeds; the mean over queries is reported.

    Parameters
    ----------
    subsets
        The training examples of each retrained model: a list of index arrays, ``[subsets, size]`` indices, or
        ``[subsets, train]`` booleans.
    higher_is_better
        Whether the outcomes are such that a larger one is better (a margin, a log-probability) or worse (default:
        losses).
    protocol
        How the models were trained, ``averaged seeds`` or ``same run`` (see `Protocol`); stands beside the score.
    resamples, level, seed
        Of the bootstrap; see `Bootstrap`.

    Examples
    --------
    >>> metric = LDS([[0, 1], [0, 2], [1, 2]])
    >>> metric.update([[0.3, 0.2, 0.1]], [[0.1], [0.2], [0.3]])  # larger scores: more helpful, so lower losses
    >>> metric.compute().lds
    1.0
    """

    def __init__(
        self,
        subsets: Any,
        *,
        higher_is_better: bool = False,
        protocol: ProtocolName = "averaged seeds",
        resamples: int = 300,
        level: float = 0.95,
        seed: int = 0,
    ):
        super().__init__()
        self.subsets = as_subsets(subsets)
        scalars.flag("higher_is_better", higher_is_better)
        self.higher_is_better = higher_is_better
        self.protocol = cast(ProtocolName, scalars.one_of("protocol", protocol, get_args(ProtocolName)))
        self.bootstrap = Bootstrap(resamples, level, seed)

    def settings(self) -> Record:
        """The subsets, what an outcome is, and how models were trained."""
        return {
            "subsets": torch.from_numpy(np.concatenate(self.subsets.members)),
            "sizes": torch.tensor([len(members) for members in self.subsets.members]),
            "higher_is_better": torch.tensor(self.higher_is_better),
            "same_run": torch.tensor(self.protocol == "same run"),
        }

    def update(self, scores: Any, outcomes: Any) -> None:
        """Take the scores and outcomes of some queries.

        Parameters
        ----------
        scores
            ``[queries, train]``. An `Attribution` says by its quantity which sign is helpful; a plain array is taken
            to be large for helpful examples, as the removal of a loss is.
        outcomes
            The measurement of each query under each retrained model, ``[subsets, queries]`` or
            ``[subsets, seeds, queries]``.

        Raises
        ------
        InputError
            If shapes don't fit, a value isn't finite, or the attribution doesn't say which sign is helpful.
        """
        helpful = helpfulness(scores)
        measured = checks.numbers("outcomes", outcomes)
        measured = measured[:, None] if measured.ndim == 2 else measured
        count, queries = len(self.subsets.members), len(helpful)
        if measured.ndim != 3 or measured.shape[::2] != (count, queries):
            raise InputError(
                f"outcomes: got shape {np.shape(outcomes)}; give [subsets, queries] or [subsets, seeds, queries] with "
                f"{count} subsets and {queries} queries, as there are rows of scores"
            )
        seeds = self._records[0]["outcomes"].shape[1] if self._records else measured.shape[1]
        if measured.shape[1] != seeds:
            raise InputError(f"outcomes: got {measured.shape[1]} seeds, but {seeds} in the updates before")
        membership = self.subsets.membership(helpful.shape[1])
        effects = helpful @ membership.T.astype(float)
        where = expansion_of(scores)
        known = float(self._records[0]["expansion"][0]) if self._records else where
        if where != known and not (math.isnan(where) and math.isnan(known)):
            raise InputError(f"scores: expanded at mean weight {where:g}, but {known:g} in the updates before")
        self._records.append(
            {
                "predicted": torch.from_numpy(effects if self.higher_is_better else -effects),
                "outcomes": torch.from_numpy(measured.transpose(2, 1, 0).copy()),
                "expansion": torch.full((queries,), where, dtype=torch.float64),
                "kept": torch.full((queries,), float(membership.mean()), dtype=torch.float64),
            }
        )

    def compute(self) -> LDSResult:
        """The score over all queries so far; queries without any variation are counted by a warning."""
        predicted, outcomes = (self._gathered(name).numpy() for name in ("predicted", "outcomes"))
        actual = outcomes.mean(1)
        per_query = spearman(predicted, actual)
        lds = mean_of_defined(per_query, "LDS")
        agreement, ceiling = noise_ceiling(outcomes)
        both, over_subsets = self._resampled(predicted, actual, per_query, lds)
        return LDSResult(
            lds,
            torch.from_numpy(per_query),
            both,
            self.bootstrap.of_mean(per_query),
            over_subsets,
            agreement,
            ceiling,
            len(self.subsets.members),
            outcomes.shape[1],
            Protocol(
                self.protocol,
                float(self._gathered("kept")[0]),
                outcomes.shape[1],
                float(self._gathered("expansion")[0]),
            ),
        )

    def _resampled(
        self,
        predicted: Float[np.ndarray, "queries subsets"],
        actual: Float[np.ndarray, "queries subsets"],
        per_query: Float[np.ndarray, " queries"],
        lds: float,
    ) -> tuple[Interval, Interval]:
        """Intervals from resampled subsets, with queries resampled too and without."""
        defined = ~np.isnan(per_query)
        orders = order(predicted[defined]), order(actual[defined])
        generator = self.bootstrap.generator()
        replicates = []
        for row in draw(self.bootstrap.resamples, predicted.shape[1], generator):
            counts = np.broadcast_to(row, orders[0].shape)
            rho = pearson(counted_ranks(orders[0], counts), counted_ranks(orders[1], counts), counts)
            known = ~np.isnan(rho)  # a draw may hold a single subset many times
            weights = draw(1, len(rho), generator)[0, known]
            if weights.any():
                replicates.append((np.average(rho[known], weights=weights), rho[known].mean()))
        both, subsets = np.array(replicates).reshape(-1, 2).T
        return self.bootstrap.interval(both, lds, 1), self.bootstrap.interval(subsets, lds, 1)


def noise_ceiling(outcomes: Float[np.ndarray, "queries seeds subsets"]) -> tuple[float, float]:
    """Mean Spearman's ρ between seeds, and what a perfect predictor of the mean over seeds would reach.

    With r the reliability of one seed's outcomes, that of the mean of k is kr/(1 + (k−1)r) (Spearman 1910, Brown
    1910), and no predictor correlates with them by more than its root. Exact for Pearson's r, near for ranks.
    """
    k = outcomes.shape[1]
    if k < 2:
        return math.nan, math.nan
    pairs = [spearman(outcomes[:, a], outcomes[:, b]) for a, b in combinations(range(k), 2)]
    found = np.stack(pairs)
    if np.isnan(found).all():
        return math.nan, math.nan
    r = float(np.nanmean(found))
    reliable = max(r, 0.0)
    return r, math.sqrt(k * reliable / (1 + (k - 1) * reliable))


def expansion_of(scores: Any) -> float:
    """The mean weight at which scores are linearised; nan where they don't say."""
    return scores.facts.get("mean weight", 1.0) if isinstance(scores, Attribution) else math.nan


def helpfulness(scores: Any) -> Float[np.ndarray, "queries train"]:
    """Scores with the sign by which larger is more helpful, in float64.

    Raises
    ------
    InputError
        If the attribution's quantity doesn't say which sign is helpful, or a score isn't finite.
    """
    sign = 1
    if isinstance(scores, Attribution):
        sign, scores = scores.quantity.helpful_sign, scores.scores
        if sign == 0:
            raise InputError(
                "scores: the quantity of this attribution doesn't say whether large scores are helpful; give "
                "attribution.scores, or their negative, as a tensor that is large for helpful examples"
            )
    values = checks.numbers("scores", scores)
    if values.ndim != 2:
        raise InputError(f"scores: got shape {values.shape}; give [queries, train]")
    return sign * values
