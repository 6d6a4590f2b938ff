"""Numbers, names and statistics as they are written into figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from upweight.plots.checks import Array


def number(value: float) -> str:
    """Three significant digits and a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def coefficient(value: float) -> str:
    """A correlation or slope: three significant digits, or as many as tell it from ±1."""
    nearest = min(abs(value), abs(1 - abs(value)))
    if nearest == 0:
        return number(value)
    near_one = abs(value) > 0.5
    digits = -math.floor(math.log10(nearest)) + (0 if near_one else 2)
    return f"{value:.{min(max(3, digits), 7)}f}".replace("-", "−")


def shortened(text: str, most: int = 36) -> str:
    """The text with its middle left out where it is long."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def with_unit(words: str, unit: str) -> str:
    """The words, and the unit in parentheses where there is one."""
    return f"{words} ({unit})" if unit else words


def correlation(word: str, measure: Any, x: Array, y: Array) -> list[str]:
    """The statistic in words, or nothing where it is undefined."""
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return []
    return [f"{word} = {coefficient(measure(x, y).statistic)}"]
