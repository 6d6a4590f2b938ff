"""Numbers, names and statistics as they are written into figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from upweight.plots.checks import Array


def number(value: float) -> str:
    """Three significant digits and a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


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
    return [f"{word} = {number(measure(x, y).statistic)}"]
