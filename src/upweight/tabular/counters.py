"""Columns that number the rows: they say where a row stands, not what it is."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

LEAST_SURPRISE = 10.0
"""−ln of the chance that whole numbers so dense are all distinct, beyond which they count rather than measure."""
FEWEST = 5
"""Values that a counter has at least."""
EVEN = 1e-6
"""Difference of steps, as a share of the step, that is rounding."""
EXACT = 2.0**53
"""Whole numbers beyond this are not all floats."""


def counts(column: pd.Series) -> bool:
    """Whether a numeric column counts the rows, in any order and with any step, also where some are missing.

    Either its values are evenly spaced without a repeat, or they are whole, and n of them without a repeat among m
    steps: were they measured, repeats would be all but certain (no repeat has a chance of about exp(−n²/2m)).
    """
    present = column.dropna()
    if len(present) < FEWEST:
        return False
    values = np.sort(np.asarray(present, dtype=np.float64))
    steps = np.diff(values)
    if not np.isfinite(values).all() or steps.min() <= 0:
        return False
    if steps.max() - steps.min() <= EVEN * steps.min():
        return True
    return _whole(values) and _surprise(steps) >= LEAST_SURPRISE


def _whole(values: npt.NDArray[np.float64]) -> bool:
    return bool(np.abs(values).max() < EXACT and (values == np.floor(values)).all())


def _surprise(steps: npt.NDArray[np.float64]) -> float:
    step = math.gcd(*steps.astype(np.int64).tolist())
    return len(steps) * (len(steps) + 1) / 2 / float(steps.sum() / step)
