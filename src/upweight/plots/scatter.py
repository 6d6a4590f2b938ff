"""Influence over another quantity of the training examples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from upweight import kinds
from upweight.plots import checks
from upweight.plots.checks import Values
from upweight.plots.histogram import heavy_from
from upweight.plots.style import (
    MARKERS,
    PALETTE,
    QUIET,
    WIDTH,
    new_axes,
    point_marks,
    styled,
    write_heading,
    write_labels,
    write_legend,
)
from upweight.plots.words import correlation, with_unit


@styled
def influence_against(
    x: Values,
    scores: Values,
    *,
    xlabel: str,
    unit: str,
    groups: Sequence[Hashable] | Values | None = None,
    quantity: str = "Influence",
    title: str | None = None,
) -> Figure:
    """Scatter of influence over another quantity of the training examples, coloured by group.

    With the distance to the query for ``x`` and the class for ``groups``: Figure 4 of Koh & Liang (2017).
    Heavy-tailed scores are drawn on the symmetric logarithmic axis of :func:`score_histogram`.

    Parameters
    ----------
    x
        One value for each score, of any shape: ``[n]``, or ``[queries, k]`` of several queries.
    scores
        Influence of each, of the same shape.
    xlabel
        What ``x`` is, with its unit.
    unit
        The unit of the scores.
    groups
        The group of each score, row by row, of anything hashable, or an array of the same shape; drawn
        in order of appearance.
    quantity
        What a score is, in words.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Empty, mismatched or non-finite arrays.
    """
    kinds.check(influence_against, locals())
    across = checks.numbers("x", x)
    points = ("x", across.shape)
    values = checks.numbers("scores", scores, points).ravel()
    members = [""] * across.size if groups is None else checks.names("groups", groups, points)
    across = across.ravel()

    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = new_axes(figure)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    threshold = heavy_from(values)
    if threshold is not None:
        axes.set_yscale("symlog", linthresh=threshold)
    legend: list[tuple[Any, str]] = []
    column = np.array(members, dtype=object)
    for i, group in enumerate(dict.fromkeys(members)):
        mine = column == group
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        axes.scatter(across[mine], values[mine], color=colour, marker=marker, zorder=3, **point_marks(values.size))
        # A handle of its own: the points themselves may be too faint to read a legend by.
        handle = Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=6)
        legend.append((handle, f"{group} (n = {mine.sum():,})"))
    write_labels(axes, xlabel, with_unit(quantity, unit))
    write_heading(
        axes,
        title,
        " · ".join([f"n = {values.size:,}", *correlation("Spearman ρ", stats.spearmanr, across, values)]),
    )
    if groups is not None:
        write_legend(figure, legend)
    return figure
