"""What all figures look like: colours, one style, axes, headings and legends."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from upweight.plots.checks import Array

POSITIVE, NEGATIVE, INK, QUIET, FAINT = "#0072B2", "#D55E00", "#222222", "#595959", "#E4E4E4"
PALETTE = (POSITIVE, NEGATIVE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = "osD^vPX*"  # one more than colours, so that the pairs of both repeat only after 56 groups
DASHES = ("-", "--", "-.", (0, (1, 1)))
WIDTH = 7.2  # inches: 720 px at 100 dots per inch, the width these figures are drawn to be read at
NAMED = 8  # points or extremes written out; more would cover one another

# The user's own style (dark background, TeX …) would make the same report differ from machine to machine.
styled = style.context(
    [
        "default",
        {
            "axes.edgecolor": QUIET,
            "axes.labelcolor": INK,
            "axes.labelsize": 10,
            "axes.linewidth": 0.7,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "figure.dpi": 100,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "text.color": INK,
        },
    ]
)


def new_axes(figure: Figure, columns: int = 1, place: int = 0) -> Axes:
    """The only axes of a figure, or one of several side by side."""
    axes = figure.add_subplot(1, columns, place + 1)
    # Ticks are made when drawn, outside the style: what they should look like is set on the axes themselves.
    axes.tick_params(which="both", labelsize=9, width=0.7, color=QUIET, labelcolor=INK, direction="out")
    axes.grid(visible=True, color=FAINT, linewidth=0.7, linestyle="-")
    axes.set_axisbelow(True)
    # A power of ten common to all ticks stands at the right, since the statistics stand at the left.
    axes.yaxis.set_offset_position("right")
    return axes


def point_marks(n: int) -> dict[str, Any]:
    """Size and opacity of n points: many are small and faint, so that dense regions still show."""
    return {"s": 26 if n <= 300 else 12, "alpha": float(np.clip(300 / n, 0.3, 0.85)), "linewidths": 0}


def write_labels(axes: Axes, x: str, y: str) -> None:
    """What the axes show, in the user's words."""
    axes.set_xlabel(x, parse_math=False)
    axes.set_ylabel(y, parse_math=False)


def write_heading(axes: Axes, title: str | None, note: str) -> None:
    """The title in bold and under it the statistics, both above the axes where no point can hide them."""
    if title:
        axes.set_title(title, pad=24 if note else 8, parse_math=False)
    if note:
        axes.annotate(
            note,
            (0, 1),
            xytext=(0, 8),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
            color=QUIET,
            parse_math=False,
        )


def sign_entries(values: Array, signs: tuple[str, str] | None) -> list[tuple[Any, str]]:
    """Legend entries for the meanings of the negative and positive values, as far as there are any."""
    if signs is None:
        return []
    negative, positive = signs
    entries = [
        (Patch(color=NEGATIVE), f"negative: {negative}", (values < 0).any()),
        (Patch(color=POSITIVE), f"positive: {positive}", (values > 0).any()),
    ]
    return [(patch, words) for patch, words, present in entries if present]


def write_legend(figure: Figure, entries: list[tuple[Any, str]], columns: int = 3) -> None:
    """A legend under the axes, so that it covers no point."""
    if not entries:
        return
    handles = [handle for handle, _ in entries]
    legend = figure.legend(handles, [str(i) for i in range(len(entries))], loc="outside lower left", ncols=columns)
    # legend() itself leaves out a name that begins with "_" and sets one with "$" as mathematics.
    for text, (_, words) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(words)
