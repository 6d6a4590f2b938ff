"""Correlations of many rows at once, also where each column counts several times, as in a bootstrap.

Layout: ``x`` and ``y`` are ``[rows, m]``, a correlation is taken along the last axis, and ``counts`` (of the same
shape, default 1) say how often each pair occurs. Ties have their average rank, as in ``scipy.stats.spearmanr``.
A row that is constant has no correlation: nan.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from upweight.errors import UpweightWarning, warn

Rows = Float[np.ndarray, "rows m"]
Counts = Int[np.ndarray, "rows m"]

ROUNDING = 1e-13
"""Standard deviation over the largest |value| below which a row is constant to rounding (as in scipy)."""


class ConstantWarning(UpweightWarning):
    """Rows without any variation have no correlation; they are left out of the mean."""


def pearson(x: Rows, y: Rows, counts: Counts | None = None) -> Float[np.ndarray, " rows"]:
    """Pearson's r of each row."""
    covariance, spread_x, spread_y = _moments(x, y, counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(covariance / spread_x / spread_y, -1, 1)


def slope(x: Rows, y: Rows, counts: Counts | None = None) -> Float[np.ndarray, " rows"]:
    """Slope of y regressed on x with an intercept, of each row."""
    covariance, spread_x, _ = _moments(x, y, counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return covariance / spread_x**2


def spearman(x: Rows, y: Rows) -> Float[np.ndarray, " rows"]:
    """Spearman's ρ of each row: Pearson's r of the ranks."""
    from scipy import stats  # half a second, which scores don't need

    return pearson(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))


def order(values: Rows) -> Int[np.ndarray, "rows m"]:
    """Number of smaller distinct values in the row: all that ranks depend on, computed once for many ``counts``."""
    from scipy import stats  # half a second, which scores don't need

    return stats.rankdata(values, method="dense", axis=-1).astype(np.int64) - 1


def counted_ranks(order: Int[np.ndarray, "rows m"], counts: Counts) -> Rows:
    """Average ranks, up to a constant of each row, of values with this `order` that occur so many times.

    rank = #smaller + (#equal + 1)/2, by a count per distinct value and its cumulative sum: no sort.
    """
    rows, m = order.shape
    cells = order + m * np.arange(rows)[:, None]
    equal = np.bincount(cells.ravel(), counts.ravel(), minlength=rows * m)
    # One sum through all rows: what came before a row is the same for all of its values.
    return (equal.cumsum() - equal / 2)[cells]


def mean_of_defined(values: Float[np.ndarray, " rows"], what: str) -> float:
    """Mean over the rows that have a value; a warning counts the others, nan if there are only others."""
    missing = np.isnan(values)
    if missing.any():
        warn(
            f"{what}: undefined for {missing.sum()} of {missing.size} queries, whose predictions or outcomes are "
            "all equal; they are left out of the mean",
            ConstantWarning,
        )
    return float(values[~missing].mean()) if not missing.all() else float("nan")


def _moments(x: Rows, y: Rows, counts: Counts | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance and both standard deviations of each row; nan for the deviation of a constant row."""
    share = np.full(x.shape, 1 / x.shape[-1]) if counts is None else counts / counts.sum(-1, keepdims=True)
    dx, dy = (side - np.einsum("rm,rm->r", share, side)[:, None] for side in (x, y))
    weighted = share * dx
    covariance, variance = (np.einsum("rm,rm->r", weighted, side) for side in (dy, dx))
    spread_x = _spread(variance, x)
    spread_y = _spread(np.einsum("rm,rm,rm->r", share, dy, dy), y)
    return covariance, spread_x, spread_y


def _spread(variance: Float[np.ndarray, " rows"], values: Rows) -> Float[np.ndarray, " rows"]:
    spread = np.sqrt(variance)
    return np.where(spread > ROUNDING * np.abs(values).max(-1), spread, np.nan)
