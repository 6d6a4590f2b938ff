"""Bootstrap intervals: how far a figure would move with other queries, examples or subsets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from upweight import scalars


@dataclass(frozen=True)
class Interval:
    """An interval that holds the figure with probability ``level``; nan where there is too little to tell.

    Attributes
    ----------
    low, high
        Its ends, in the figure's unit.
    level
        The probability, in (0, 1); .95 unless said otherwise.
    """

    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"[{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes
    ----------
    value
        The figure; ``float(estimate)`` is it too.
    interval
        Where other data of the same kind would have put it.
    """

    value: float
    interval: Interval

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.4f} {self.interval}"


@dataclass(frozen=True)
class Bootstrap:
    """How to resample.

    Attributes
    ----------
    resamples
        Draws with replacement; the ends of an interval are percentiles over them.
    level
        Probability of the interval.
    seed
        Of the draws: equal seeds give equal intervals.
    """

    resamples: int = 300
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        scalars.whole("resamples", self.resamples)
        scalars.number("level", self.level, above=0, below=1)
        scalars.seed("seed", self.seed)

    def generator(self) -> np.random.Generator:
        """Fresh random numbers, the same at every call."""
        return np.random.default_rng(self.seed)

    def interval(
        self, replicates: Float[np.ndarray, " resamples"], estimate: float, bound: float = math.inf
    ) -> Interval:
        """Percentiles of a figure's replicates, moved so that their mean is the estimate, within ±bound.

        A draw with replacement holds pairs twice, and rank correlations of such data come out smaller. Moved back,
        95 % intervals of the LDS over queries and subsets held the truth in 95–99 % of simulations (20–100 subsets),
        in place of 85–98 %. Undefined replicates are left out.
        """
        defined = replicates[~np.isnan(replicates)]
        if not defined.size:
            return Interval(math.nan, math.nan, self.level)
        ends = np.quantile(defined, [(1 - self.level) / 2, (1 + self.level) / 2]) + (estimate - defined.mean())
        low, high = np.clip(ends, -bound, bound)
        return Interval(float(low), float(high), self.level)

    def of_mean(self, values: Float[np.ndarray, " n"]) -> Interval:
        """Interval of the mean of the defined values, which are resampled; nan for fewer than two."""
        defined = values[~np.isnan(values)]
        if defined.size < 2:
            return Interval(math.nan, math.nan, self.level)
        drawn = draw(self.resamples, defined.size, self.generator())
        return self.interval(drawn @ defined / defined.size, float(defined.mean()))

    def of_table(self, values: Float[np.ndarray, "models examples"]) -> Estimate:
        """The mean with an interval for other models *and* other examples, each resampled; nan for one example."""
        (models, examples), mean = values.shape, float(values.mean())
        if examples < 2:
            return Estimate(mean, Interval(math.nan, math.nan, self.level))
        generator = self.generator()
        over_models = draw(self.resamples, models, generator) / models
        over_examples = draw(self.resamples, examples, generator) / examples
        return Estimate(mean, self.interval(((over_models @ values) * over_examples).sum(1), mean))


def draw(rows: int, n: int, generator: np.random.Generator) -> Int[np.ndarray, "rows n"]:
    """How often each of n things comes up in n draws with replacement, for each row anew."""
    drawn = generator.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
