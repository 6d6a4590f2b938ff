"""Figures of merit of several methods, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from upweight import kinds
from upweight.plots import checks
from upweight.plots.checks import Values
from upweight.plots.style import INK, NEGATIVE, POSITIVE, WIDTH, new_axes, styled, write_heading, write_labels
from upweight.plots.words import shortened


@styled
def estimates(
    labels: Sequence[object],
    values: Values,
    low: Values,
    high: Values,
    *,
    xlabel: str,
    reference: float | None = None,
    note: str = "",
    title: str | None = None,
) -> Figure:
    """A point with its interval for each method, the first on top.

    Parameters
    ----------
    labels
        A name for each, ``[k]``.
    values
        ``[k]``.
    low, high
        Ends of the intervals, ``[k]``; equal to the value where there is none.
    xlabel
        What a value is, with its unit.
    reference
        A value to compare with, drawn as a line: what chance has, say.
    note
        Written above the axes.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Empty, mismatched or non-finite input.
    """
    kinds.check(estimates, locals())
    found = checks.vector("values", values)
    names = checks.names("labels", labels, ("values", found.shape))
    left, right = (checks.numbers(name, end, ("values", found.shape)) for name, end in (("low", low), ("high", high)))
    places = np.arange(found.size)[::-1]

    figure = Figure(figsize=(WIDTH, 1.3 + 0.3 * found.size), layout="constrained")
    axes = new_axes(figure)
    axes.grid(visible=False, axis="y")
    axes.hlines(places, left, right, color=POSITIVE, linewidth=2)
    axes.plot(found, places, "o", color=POSITIVE)
    axes.set_yticks(places, [shortened(name) for name in names], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=INK, linewidth=0.8)
    if reference is not None:
        axes.axvline(reference, color=NEGATIVE, linewidth=1.2, linestyle="--")
    axes.set_ylim(-0.7, found.size - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    write_labels(axes, xlabel, "")
    write_heading(axes, title, note)
    return figure
