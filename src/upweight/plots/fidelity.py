"""How well predictions rank outcomes, query by query."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from upweight import kinds
from upweight.plots import checks
from upweight.plots.checks import Values
from upweight.plots.style import (
    INK,
    NEGATIVE,
    POSITIVE,
    QUIET,
    WIDTH,
    new_axes,
    styled,
    write_heading,
    write_labels,
    write_legend,
)
from upweight.plots.words import coefficient

BIN = 0.05


@styled
def correlation_histogram(
    correlations: Values,
    *,
    mean: tuple[float, float, float] | None = None,
    ceiling: float | None = None,
    quantity: str = "Correlation",
    title: str | None = None,
) -> Figure:
    """Distribution of correlations over queries, with their mean and the most that can be reached.

    Parameters
    ----------
    correlations
        One per query, of any shape, within −1 … 1.
    mean
        The mean with the ends of its interval.
    ceiling
        The mean that a perfect predictor would reach, given the noise of the outcomes.
    quantity
        What a correlation is, in words.
    title
        Written above the figure.

    Raises
    ------
    InputError
        No correlation or a non-finite one.
    """
    kinds.check(correlation_histogram, locals())
    values = checks.numbers("correlations", correlations).ravel()
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = new_axes(figure)
    lowest = min(np.floor(values.min() / BIN), 0) * BIN
    edges = np.linspace(lowest, 1, round((1 - lowest) / BIN) + 1)
    counts, _ = np.histogram(values, edges)
    colours = np.where(edges[1:] <= BIN / 2, NEGATIVE, POSITIVE)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours, edgecolor="white", linewidth=0.3)
    legend: list[tuple[Any, str]] = []
    if mean is not None:
        value, low, high = mean
        axes.axvspan(low, high, color=INK, alpha=0.15, linewidth=0)
        line = axes.axvline(value, color=INK, linewidth=1.4)
        legend.append((line, f"mean {coefficient(value)}, interval {coefficient(low)} to {coefficient(high)}"))
    if ceiling is not None:
        line = axes.axvline(ceiling, color=QUIET, linewidth=1.4, linestyle="--")
        legend.append((line, f"a perfect predictor's mean ≈ {coefficient(ceiling)}"))
    axes.set_xlim(lowest, 1)
    write_labels(axes, quantity, "Number of queries")
    median = coefficient(float(np.median(values)))
    write_heading(axes, title, f"n = {values.size:,} queries · median {median} · {np.mean(values < 0):.0%} below 0")
    write_legend(figure, legend)
    return figure
