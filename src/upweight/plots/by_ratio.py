"""What unlearning leaves and keeps, by how much of a model may move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from upweight import kinds
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Array, Values
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
def accuracy_by_ratio(
    ratios: Values,
    accuracies: Mapping[str, Values],
    deviations: Mapping[str, Values] | None = None,
    *,
    before: Sequence[float] | None = None,
    retrained: Sequence[float] | None = None,
    note: str = "",
    title: str | None = None,
) -> Figure:
    """Accuracy on what remains and on what was removed, side by side, over the share of the units that may move.

    Parameters
    ----------
    ratios
        Shares of the units, above 0 and at most 1, ``[k]``; drawn by their logarithm.
    accuracies
        For each rule or method, accuracy on the remaining and on the removed examples, ``[k, 2]``.
    deviations
        For some of them standard deviations, drawn as bars, ``[k, 2]``.
    before
        Both accuracies of the model as it was; a dotted line.
    retrained
        Both accuracies of a model trained without what is removed; a dashed line.
    note
        Statistics, written under the title.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Nothing to draw; arrays that are mismatched, non-finite or no shares; a deviation of no curve.
    """
    kinds.check(accuracy_by_ratio, locals())
    across = checks.vector("ratios", ratios)
    if across.min() <= 0 or across.max() > 1:
        raise InputError(f"ratios: shares of the units above 0 and at most 1; got {across.min():g} … {across.max():g}")
    if not accuracies:
        raise InputError("accuracies: got none; give at least one name with its accuracies")
    spreads = deviations or {}
    if not spreads.keys() <= accuracies.keys():
        raise InputError(f"deviations: {sorted(spreads.keys() - accuracies.keys())} have no accuracies of that name")
    form = ("two columns for each of the ratios", (len(across), 2))
    curves = {name: _shares(f"accuracies[{name!r}]", given, form) for name, given in accuracies.items()}
    bars = {name: checks.standard_errors(f"deviations[{name!r}]", given, form) for name, given in spreads.items()}
    levels = {
        words: _shares(words, given, ("remaining and removed", (2,)))
        for words, given in (("before", before), ("retrained", retrained))
        if given is not None
    }
    figure = Figure(figsize=(1.4 * WIDTH, 4.4), layout="constrained")
    order = np.argsort(across)
    for place, words in enumerate(("on what remains", "on what was removed")):
        axes = new_axes(figure, 2, place)
        legend: list[tuple[Any, str]] = []
        for i, (name, values) in enumerate(curves.items()):
            look: dict[str, Any] = {"linestyle": DASHES[i % len(DASHES)], "marker": MARKERS[i % len(MARKERS)]}
            spread = bars[name][order, place] if name in bars else None
            line = axes.errorbar(
                across[order],
                values[order, place],
                spread,
                color=PALETTE[i % len(PALETTE)],
                markersize=5,
                elinewidth=0.8,
                capsize=2,
                **look,
            )
            legend.append((line, name))
        for (name, level), style, colour in zip(levels.items(), (":", "--"), (QUIET, INK), strict=False):
            legend.append((axes.axhline(level[place], color=colour, linewidth=1.2, linestyle=style), name))
        axes.set_xscale("log")
        axes.set_xticks(across[order], [f"{ratio:.3g}" for ratio in 100 * across[order]])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        write_labels(axes, "units that may move (%)", f"accuracy {words}")
        if place == 0:
            write_heading(axes, title, note)
    write_legend(figure, legend, columns=5)
    return figure


def _shares(name: str, values: Any, form: checks.Partner) -> Array:
    given = checks.numbers(name, values, form)
    if given.min() < 0 or given.max() > 1:
        raise InputError(f"{name}: shares in 0 … 1; got {given.min():g} … {given.max():g}")
    return given
