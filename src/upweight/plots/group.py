"""A group among all training examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from upweight import kinds
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Values
from upweight.plots.style import (
    NEGATIVE,
    POSITIVE,
    WIDTH,
    new_axes,
    styled,
    write_heading,
    write_labels,
    write_legend,
)
from upweight.plots.words import number, with_unit


@styled
def group_by_rank(
    scores: Values, members: Values, *, group: str, quantity: str, unit: str, title: str | None = None
) -> Figure:
    """|score| of every example against its rank, both on logarithmic axes, the group's members marked.

    Parameters
    ----------
    scores
        ``[n]``.
    members
        Which examples belong to the group, ``[n]`` of bool, some but not all.
    group
        The group in words.
    quantity
        What a |score| is, in words.
    unit
        Its unit.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Mismatched or non-finite arrays; all examples in the group, or scores of 0 alone.
    """
    kinds.check(group_by_rank, locals())
    sizes = np.abs(checks.vector("scores", scores))
    mine = checks.mask("members", members)
    if mine.shape != sizes.shape:
        raise InputError(f"members: got {mine.size}, but there are {sizes.size} scores; give one for each")
    if mine.all():
        raise InputError(f"members: all {mine.size} are in the group; there is nothing to compare it with")
    if not sizes.any():
        raise InputError(f"scores: all {sizes.size} are 0; there is nothing to rank")
    ranks = np.empty(sizes.size, dtype=int)
    ranks[np.argsort(-sizes, kind="stable")] = np.arange(1, sizes.size + 1)
    shown = np.maximum(sizes, sizes[sizes > 0].min())

    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = new_axes(figure)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.scatter(ranks[~mine], shown[~mine], s=9, color=POSITIVE, alpha=0.6, linewidths=0, zorder=2)
    axes.scatter(
        ranks[mine], shown[mine], s=46, color=NEGATIVE, marker="D", edgecolors="white", linewidths=0.6, zorder=3
    )
    largest = float(sizes[~mine].max())
    legend: list[tuple[Any, str]] = [
        (Line2D([], [], color=NEGATIVE, marker="D", linestyle="none", markersize=6), f"{group} (n = {mine.sum():,})"),
        (Line2D([], [], color=POSITIVE, marker="o", linestyle="none", markersize=4), f"others (n = {(~mine).sum():,})"),
    ]
    axes.set_xlim(0.8, sizes.size * 1.25)
    write_labels(axes, "Rank among all training examples", with_unit(quantity, unit))
    share = f"{sizes[mine].sum() / sizes.sum():.1%} of all |influence|"
    over = f" · strongest {number(sizes[mine].max() / largest)} × the strongest other" if largest else ""
    write_heading(axes, title, f"{group}: {share}{over}")
    write_legend(figure, legend)
    return figure
