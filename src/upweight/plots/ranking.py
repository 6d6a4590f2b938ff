"""Chosen examples by score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from upweight import kinds
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Values
from upweight.plots.style import (
    INK,
    NEGATIVE,
    POSITIVE,
    QUIET,
    WIDTH,
    new_axes,
    sign_entries,
    styled,
    write_heading,
    write_labels,
    write_legend,
)
from upweight.plots.words import number, shortened, with_unit

BARS = 200


@styled
def ranking_bars(
    labels: Sequence[object],
    scores: Values,
    *,
    unit: str,
    quantity: str,
    signs: tuple[str, str] | None = ("harmful", "helpful"),
    title: str | None = None,
) -> Figure:
    """Horizontal bars of the chosen examples' scores, the highest on top.

    Parameters
    ----------
    labels
        A name for each example, ``[k]``; long ones are shortened in the middle.
    scores
        ``[k]``, at most 200: the most helpful and the most harmful, not all.
    unit
        The unit of the scores.
    quantity
        What a score is, in words.
    signs
        What a negative and a positive score mean. The default is right for the quantity ``removal``.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Empty, mismatched or non-finite input; more bars than can be read.
    """
    kinds.check(ranking_bars, locals())
    values = checks.vector("scores", scores)
    names = checks.names("labels", labels, ("scores", values.shape))
    if values.size > BARS:
        raise InputError(f"scores: got {values.size}, which no one can read as bars; give the top {BARS} or fewer")
    order = np.argsort(values, kind="stable")
    values = values[order]

    figure = Figure(figsize=(WIDTH, 1.3 + 0.27 * values.size), layout="constrained")
    axes = new_axes(figure)
    axes.grid(visible=False, axis="y")
    bars = axes.barh(np.arange(values.size), values, color=np.where(values < 0, NEGATIVE, POSITIVE), height=0.7)
    axes.bar_label(bars, [number(value) for value in values], padding=3, fontsize=8.5, color=QUIET)
    axes.set_yticks(np.arange(values.size), [shortened(names[i]) for i in order], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_ylim(-0.7, values.size - 0.3)
    axes.margins(x=0.2)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    write_labels(axes, with_unit(quantity, unit), "")
    write_heading(axes, title, f"n = {values.size:,} shown")
    write_legend(figure, sign_entries(values, signs))
    return figure
