"""Correlations of many rows, with ties, counts and constant rows, against scipy row by row."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from upweight.evaluation import correlation
from upweight.evaluation.bootstrap import draw


def tied(seed: int, rows: int = 6, m: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Rows full of ties: whole numbers from 0 to 4."""
    generator = np.random.default_rng(seed)
    x = generator.integers(5, size=(rows, m)).astype(float)
    return x, np.clip(x + generator.integers(-2, 3, size=x.shape), 0, 4)


def test_rows_equal_scipy_with_ties() -> None:
    x, y = tied(0)
    for found, scipy in ((correlation.pearson, stats.pearsonr), (correlation.spearman, stats.spearmanr)):
        np.testing.assert_allclose(found(x, y), [scipy(*pair).statistic for pair in zip(x, y, strict=True)])
    slopes = [stats.linregress(*pair).slope for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(correlation.slope(x, y), slopes)


@given(st.integers(0, 10_000))
def test_counts_are_repetitions(seed: int) -> None:
    x, y = tied(seed)
    counts = draw(len(x), x.shape[1], np.random.default_rng(seed))
    ranks = [correlation.counted_ranks(correlation.order(side), counts) for side in (x, y)]
    found = correlation.pearson(*ranks, counts), correlation.pearson(x, y, counts), correlation.slope(x, y, counts)
    for row, times in enumerate(counts):
        a, b = np.repeat(x[row], times), np.repeat(y[row], times)
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            continue
        expected = stats.spearmanr(a, b).statistic, stats.pearsonr(a, b).statistic, stats.linregress(a, b).slope
        np.testing.assert_allclose([each[row] for each in found], expected, rtol=1e-9, atol=1e-12)


def test_rows_that_are_constant_to_rounding_have_no_correlation() -> None:
    x = np.array([[0.1, 0.1, 0.1], [7.0, 7.0, 7.0 + 2e-15], [1.0, 2.0, 3.0]])
    y = np.array([[1.0, 2.0, 3.0]] * 3)
    np.testing.assert_array_equal(np.isnan(correlation.pearson(x, y)), [True, True, False])
    np.testing.assert_array_equal(np.isnan(correlation.pearson(y, x)), [True, True, False])
