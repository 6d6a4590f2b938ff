"""Columns that number the rows: they say where a row stands, not what it is.

`numbering` is sure of it, and says why; `doubt` isn't, as a table may be sorted by what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

Numbers = npt.NDArray[np.float64]

LEAST_SURPRISE = 10.0
"""−ln of the chance that whole numbers so dense repeat so seldom, beyond which they count rather than measure."""
FEWEST = 5
"""Values that a counter has at least."""
FEWEST_BUT = 20
"""Values it has at least where some cells are no part of the count."""
FEWEST_DOUBTED = 10
"""Distinct values from which on a doubt is worth a word."""
SHARE_BUT = 0.05
"""Share of its values that may repeat another; of those that may lie far off, half of that."""
MOST_FAR = 20
EVEN = 1e-6
"""Difference of steps, as a share of the step, that is rounding."""
UNEVEN = 0.25
"""Standard deviation of steps, as a share of the mean, below which they come from a clock. Of measurements it is 1."""
ON_GRID = 1e-4
"""Difference from a whole multiple of the smallest step that is rounding."""
EXACT = 2.0**53
"""Whole numbers beyond this are not all floats."""
RISING = 0.95
"""Rank correlation with the row number that is worth a word."""
DISTINCT = 0.25
"""Share of distinct values from which on a rising column may be a counter: ages and years repeat more."""


def numbering(column: pd.Series) -> str:
    """Why a numeric column numbers the rows, in any order and with any step; "" where it may measure something.

    Either its values are evenly spaced, or n of them stand on a grid of m places (of whole numbers, of tenths) and
    hardly repeat: were they measured, repeats would be all but certain (about n²/2m of them). A code for missing
    values, a few outliers and a few repeats are no part of the count.
    """
    present = _values(column)
    for values, but in _without_odd_ones(present):
        least = FEWEST_BUT if but else FEWEST
        if len(values) < least or not np.isfinite(values).all():
            continue
        distinct = np.unique(values)
        repeats = len(values) - len(distinct)
        if repeats > (max(1, int(SHARE_BUT * len(values))) if len(values) >= FEWEST_BUT else 0):
            continue
        told = [f"{repeats} {'repeats' if repeats > 1 else 'repeat'}"] * bool(repeats) + [but] * bool(but)
        excepted = f", but for {' and '.join(told)}" if told else ""
        steps = np.diff(distinct)
        if (_is_even(steps) and not excepted) or _surprise(values, steps) >= LEAST_SURPRISE:
            return f"it counts the rows{excepted}"
        spread = float(steps.std() / steps.mean())
        if len(steps) >= FEWEST_BUT and spread < UNEVEN:
            return f"it counts the rows or tells their time, in steps that are even to {spread:.0%}{excepted}"
    return ""


def doubt(column: pd.Series) -> str:
    """What makes a numeric column look as if it might number the rows or groups of them; "" where nothing does."""
    present = _values(column)
    code = _code(present)
    if code is not None:
        present = present[present != code]
    count, distinct = len(present), np.unique(present)
    if len(distinct) < max(FEWEST_DOUBTED, DISTINCT * count):
        return ""
    rank: float = stats.spearmanr(present, np.arange(count)).statistic
    if abs(rank) >= RISING:
        return f"it {'rises' if rank > 0 else 'falls'} with the row number (rank correlation {rank:.3f})"
    each = count // len(distinct)
    steps = np.diff(distinct)
    if each > 1 and each * len(distinct) == count and _surprise(distinct, steps) >= LEAST_SURPRISE:
        counted = np.unique(present, return_counts=True)[1]
        return f"each of its {len(distinct):,} values stands in {each} rows" if (counted == each).all() else ""
    return ""


def _values(column: pd.Series) -> Numbers:
    """In the order of the rows."""
    return np.asarray(column.dropna(), dtype=np.float64)


def _without_odd_ones(values: Numbers) -> Iterator[tuple[Numbers, str]]:
    """The values, and those that are left without a code for missing ones, without outliers, and without either."""
    yield values, ""
    code = _code(values)
    kept = values if code is None else values[values != code]
    coded = "" if code is None else f"{len(values) - len(kept):,} cells of {code:g}"
    if code is not None:
        yield kept, coded
    far = _far(kept)
    if far.any():
        first = float(kept[far][0])
        told = f"{int(far.sum())} far off ({first:g}{', …' if far.sum() > 1 else ''})"
        yield kept[~far], f"{coded} and {told}" if coded else told


def _code(values: Numbers) -> float | None:
    """A value beyond all others, such as −1, 0 or 999, that stands in several rows."""
    if len(values) < FEWEST_BUT:
        return None
    for end in (values.min(), values.max()):
        if (values == end).sum() > 2:
            return float(end)
    return None


def _far(values: Numbers) -> npt.NDArray[np.bool_]:
    """The few at either end without which the others lie closest together."""
    most = min(math.ceil(SHARE_BUT / 2 * len(values)), MOST_FAR)
    if len(values) < FEWEST_BUT + most:
        return np.zeros(len(values), dtype=np.bool_)
    ordered = np.sort(values)
    last = len(ordered) - 1
    step = float(np.median(np.diff(ordered))) or 1.0

    def stretch(low: int, high: int) -> float:
        """The range, by doublings of a step: where no outlier is in it, cutting more wins none."""
        return round(math.log2(1 + float(ordered[last - high] - ordered[low]) / step))

    cuts = [(low, count - low) for count in range(most + 1) for low in range(count + 1)]
    low, high = min(cuts, key=lambda cut: (stretch(*cut), sum(cut)))
    return (values < ordered[low]) | (values > ordered[last - high])


def _is_even(steps: Numbers) -> bool:
    return bool(steps.max() - steps.min() <= EVEN * steps.min())


def _places(values: Numbers, steps: Numbers) -> float:
    """The range in steps of the grid that all values stand on; infinite where there is none."""
    if np.abs(values).max() < EXACT and (values == np.floor(values)).all():
        return float(steps.sum() / math.gcd(*steps.astype(np.int64).tolist()))
    multiples = steps / steps.min()
    return float(multiples.round().sum()) if np.abs(multiples - multiples.round()).max() <= ON_GRID else math.inf


def _surprise(values: Numbers, steps: Numbers) -> float:
    """−ln of the chance of as few equal pairs among as many places in the range: Chernoff's bound of Poisson's tail."""
    places = _places(values, steps)
    expected = len(values) * (len(values) - 1) / 2 / places
    counted = np.unique(values, return_counts=True)[1]
    pairs = float((counted * (counted - 1) / 2).sum())
    if pairs >= expected:
        return 0.0
    return expected - pairs + (pairs * math.log(pairs / expected) if pairs else 0.0)
