"""Predictions against what retraining did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from upweight import kinds
from upweight.plots import checks
from upweight.plots.checks import Array, Values
from upweight.plots.style import (
    NAMED,
    NEGATIVE,
    POSITIVE,
    QUIET,
    new_axes,
    point_marks,
    styled,
    write_heading,
    write_labels,
    write_legend,
)
from upweight.plots.words import coefficient, correlation, with_unit


@styled
def predicted_against_actual(
    predicted: Values,
    actual: Values,
    *,
    unit: str = "",
    quantity: str = "change",
    standard_error: Values | None = None,
    predicted_standard_error: Values | None = None,
    labels: Sequence[object] | Values | None = None,
    title: str | None = None,
    statistics: bool = True,
) -> Figure:
    """Scatter of what retraining did over what was predicted, with the diagonal of perfect agreement.

    The prediction lies on the horizontal axis, so that the slope that is written (of ``actual`` regressed on
    ``predicted``, with intercept) is the slope that is seen: above 1, the predictions are too small.

    Parameters
    ----------
    predicted
        Predicted changes of any shape, for example ``[queries, k]``; each value is a point.
    actual
        Changes found by retraining, of the same shape and in the same unit.
    unit
        The unit of both, such as ``"nats"``.
    quantity
        What is predicted, in words.
    standard_error
        Of ``actual``, of the same shape: vertical error bars of one standard error.
    predicted_standard_error
        Of ``predicted``, of the same shape: horizontal error bars.
    labels
        A name for each point, row by row; those farthest from the diagonal are written.
    title
        Written above the figure.
    statistics
        Write n, Pearson's r, Spearman's ρ and the slope, and draw the fitted line.

    Raises
    ------
    InputError
        Empty, mismatched or non-finite arrays; a negative standard error.
    """
    kinds.check(predicted_against_actual, locals())
    x = checks.numbers("predicted", predicted)
    pairs = ("predicted", x.shape)
    y = checks.numbers("actual", actual, pairs).ravel()
    x_error = checks.standard_errors("predicted_standard_error", predicted_standard_error, pairs).ravel()
    y_error = checks.standard_errors("standard_error", standard_error, pairs).ravel()
    names = None if labels is None else checks.names("labels", labels, pairs)
    x = x.ravel()

    figure = Figure(figsize=(6.0, 6.2), layout="constrained")
    axes = new_axes(figure)
    limits = _limits(np.concatenate([x - x_error, x + x_error, y - y_error, y + y_error]))
    axes.set(xlim=limits, ylim=limits)
    axes.set_aspect("equal", adjustable="box")
    (diagonal,) = axes.plot(limits, limits, color=QUIET, linewidth=1, linestyle="--")
    legend: list[tuple[Any, str]] = [(diagonal, "actual = predicted")]
    if x_error.any() or y_error.any():
        bars = axes.errorbar(
            x,
            y,
            xerr=x_error if x_error.any() else None,
            yerr=y_error if y_error.any() else None,
            fmt="none",
            ecolor=POSITIVE,
            elinewidth=0.8,
            alpha=0.5,
        )
        legend.append((bars, "± 1 standard error"))
    axes.scatter(x, y, color=POSITIVE, zorder=3, **point_marks(x.size))
    note = ""
    if statistics:
        note, line = _agreement(x, y)
        if line is not None:
            ends = np.array([x.min(), x.max()])
            (fit,) = axes.plot(ends, line[0] * ends + line[1], color=NEGATIVE, linewidth=1.4)
            legend.append((fit, "least-squares line"))
    if names is not None:
        for i in np.argsort(-np.abs(y - x), kind="stable")[:NAMED]:
            axes.annotate(
                names[i],
                (x[i], y[i]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=8,
                color=QUIET,
                parse_math=False,
            )
    write_labels(axes, with_unit(f"Predicted {quantity}", unit), with_unit(f"Actual {quantity}", unit))
    write_heading(axes, title, note)
    write_legend(figure, legend)
    return figure


def _agreement(x: Array, y: Array) -> tuple[str, tuple[float, float] | None]:
    """The statistics in words, and slope and intercept of y regressed on x where they are defined."""
    words = [f"n = {x.size:,}"]
    words += correlation("Pearson r", stats.pearsonr, x, y) + correlation("Spearman ρ", stats.spearmanr, x, y)
    if len(words) == 1:
        words.append("correlation undefined" + ("" if x.size < 2 else ": all values of one side are equal"))
    if x.size < 2 or np.ptp(x) == 0:
        return " · ".join(words), None
    line = stats.linregress(x, y)
    return " · ".join([*words, f"slope = {coefficient(line.slope)}"]), (float(line.slope), float(line.intercept))


def _limits(values: Array) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin
