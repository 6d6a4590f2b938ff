"""Curves with their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from upweight import kinds
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Values
from upweight.plots.style import (
    DASHES,
    INK,
    MARKERS,
    PALETTE,
    QUIET,
    WIDTH,
    new_axes,
    styled,
    write_heading,
    write_labels,
    write_legend,
)


@styled
def curves_with_bands(
    x: Values,
    curves: Mapping[str, Values],
    bands: Mapping[str, tuple[Values, Values]] | None = None,
    *,
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, float] | None = None,
    log_x: bool = False,
    note: str = "",
    title: str | None = None,
) -> Figure:
    """One line per name over the same ``x``, with a shaded band where there is one.

    Parameters
    ----------
    x
        ``[k]``.
    curves
        For each name its values, ``[k]``.
    bands
        For some of the names the lower and upper ends of an interval, ``[k]`` each.
    xlabel
        What ``x`` is, with its unit.
    ylabel
        What the curves are, with their unit.
    marks
        Places on ``x`` worth a vertical line, by name.
    log_x
        Whether ``x`` is drawn by its logarithm.
    note
        Statistics, written under the title.
    title
        Written above the figure.

    Raises
    ------
    InputError
        No curve, or arrays that are mismatched or non-finite; a band without its curve.
    """
    kinds.check(curves_with_bands, locals())
    across = checks.vector("x", x)
    points = ("x", across.shape)
    if not curves:
        raise InputError("curves: got none; give at least one name with its values")
    limits = bands or {}
    if not limits.keys() <= curves.keys():
        raise InputError(f"bands: {sorted(limits.keys() - curves.keys())} have no curve of that name")
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = new_axes(figure)
    legend: list[tuple[Any, str]] = []
    for i, (name, values) in enumerate(curves.items()):
        colour = PALETTE[i % len(PALETTE)]
        height = checks.numbers(f"curves[{name!r}]", values, points)
        look: dict[str, Any] = {"linestyle": DASHES[i % len(DASHES)], "marker": MARKERS[i % len(MARKERS)]}
        (line,) = axes.plot(across, height, color=colour, markersize=5, **look)
        if name in limits:
            low, high = (checks.numbers(f"bands[{name!r}]", end, points) for end in limits[name])
            axes.fill_between(across, low, high, color=colour, alpha=0.18, linewidth=0)
        legend.append((line, name))
    for i, (name, place) in enumerate((marks or {}).items()):
        line = axes.axvline(place, color=INK if i == 0 else QUIET, linewidth=1.4, linestyle=DASHES[i % len(DASHES)])
        legend.append((line, name))
    if log_x:
        axes.set_xscale("log")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    write_labels(axes, xlabel, ylabel)
    write_heading(axes, title, note)
    write_legend(figure, legend)
    return figure
