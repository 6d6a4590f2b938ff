"""How soon an order of checking finds what is to be found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from upweight import kinds
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
def recovery_curve(
    orders: Mapping[str, Values],
    flipped: Values,
    *,
    quantity: str = "flipped labels",
    title: str | None = None,
) -> Figure:
    """Share of the flipped labels found against the share of the training data checked, one line per method.

    The legend says how much each method found by checking as many examples as labels were flipped.

    Parameters
    ----------
    orders
        For each method the training positions in the order in which they are checked, ``[k]`` with
        ``k ≤ n``, each position at most once.
    flipped
        Whether each training label was flipped, ``[n]`` of bool.
    quantity
        What is looked for, in words.
    title
        Written above the figure.

    Raises
    ------
    InputError
        No method, no flipped label, a position out of range or checked twice.
    """
    kinds.check(recovery_curve, locals())
    truth = checks.mask("flipped", flipped)
    if not orders:
        raise InputError("orders: got no method; give at least one name with its order of training positions")
    checked = {name: checks.order(f"orders[{name!r}]", positions, truth.size) for name, positions in orders.items()}
    n, total = truth.size, int(truth.sum())

    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = new_axes(figure)
    legend: list[tuple[Any, str]] = []
    for i, (name, order) in enumerate(checked.items()):
        found = np.concatenate([[0], np.cumsum(truth[order])]) / total
        (line,) = axes.plot(
            np.arange(order.size + 1) / n,
            found,
            color=PALETTE[i % len(PALETTE)],
            linestyle=DASHES[i % len(DASHES)],
        )
        early = min(total, order.size)
        legend.append((line, f"{name}: {found[early]:.0%} found after checking {early / n:.1%}"))
    (chance,) = axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    legend.append((chance, "at random"))
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    write_labels(axes, "Training data checked (% of examples)", f"{quantity[:1].upper()}{quantity[1:]} found (%)")
    write_heading(axes, title, f"n = {n:,} · {total:,} {quantity} ({total / n:.1%})")
    write_legend(figure, legend, columns=1)
    return figure
