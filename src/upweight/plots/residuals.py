"""How iterative solvers went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from upweight import kinds, scalars
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Values
from upweight.plots.style import (
    DASHES,
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
def residual_curves(
    histories: Mapping[str, Values],
    *,
    tolerance: float | None = None,
    log_x: bool = False,
    ylabel: str = "relative residual",
    note: str = "",
    title: str | None = None,
) -> Figure:
    """Residual against iterations, one line per solve, on a logarithmic axis.

    Parameters
    ----------
    histories
        For each name the residual before the first iteration and after each, ``[iterations + 1]``, as in
        ``Response.history`` and ``SolveReport.history``. Zeros, which have no logarithm, are left out.
    tolerance
        What was asked for; a dotted line.
    log_x
        Whether iterations too are drawn by their logarithm, from the first one on.
    ylabel
        What the residual is.
    note
        Statistics, written under the title.
    title
        Written above the figure.

    Raises
    ------
    InputError
        No history; empty, negative or non-finite ones.
    """
    kinds.check(residual_curves, locals())
    if tolerance is not None:
        scalars.number("tolerance", tolerance, above=0)
    if not histories:
        raise InputError("histories: got none; give at least one name with its residuals")
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = new_axes(figure)
    legend: list[tuple[Any, str]] = []
    for i, (name, values) in enumerate(histories.items()):
        residuals = checks.vector(f"histories[{name!r}]", values)
        if residuals.min() < 0:
            raise InputError(f"histories[{name!r}]: got {residuals.min():g}; a residual is at least 0")
        places = np.arange(len(residuals))
        shown = (residuals > 0) & (places >= int(log_x))
        look: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}
        few = int(shown.sum()) <= 60
        (line,) = axes.plot(places[shown], residuals[shown], marker="o" if few else "", markersize=3.5, **look)
        legend.append((line, name))
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log_x:
        axes.set_xscale("log")
    if tolerance is not None:
        line = axes.axhline(tolerance, color=QUIET, linewidth=1.2, linestyle=":")
        legend.append((line, f"asked for: {tolerance:.0e}"))
    write_labels(axes, "iterations", ylabel)
    write_heading(axes, title, note)
    write_legend(figure, legend)
    return figure
