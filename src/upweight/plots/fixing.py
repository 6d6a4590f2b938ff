"""What fixing labels gains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from upweight import kinds
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
def accuracy_after_fixing(
    checked: Values,
    accuracy: Mapping[str, Values],
    bands: Mapping[str, tuple[Values, Values]] | None = None,
    *,
    before: float,
    clean: float,
    note: str = "",
    title: str | None = None,
) -> Figure:
    """Test accuracy after retraining on labels fixed, against the share of the training data checked.

    Parameters
    ----------
    checked
        Shares checked, ``[k]``.
    accuracy
        For each order of checking the accuracies, ``[k]``.
    bands
        For some of them the lower and upper ends of an interval, ``[k]`` each.
    before
        Accuracy with the labels as given.
    clean
        Accuracy with all labels right.
    note
        Statistics, written under the title.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Arrays that are mismatched or non-finite.
    """
    kinds.check(accuracy_after_fixing, locals())
    across = checks.vector("checked", checked)
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = new_axes(figure)
    legend: list[tuple[Any, str]] = []
    for i, (name, values) in enumerate(accuracy.items()):
        height = checks.numbers(f"accuracy[{name!r}]", values, ("checked", across.shape))
        look: dict[str, Any] = {"linestyle": DASHES[i % len(DASHES)], "marker": MARKERS[i % len(MARKERS)]}
        (line,) = axes.plot(across, height, color=PALETTE[i % len(PALETTE)], markersize=5, **look)
        if bands and name in bands:
            low, high = (checks.numbers(f"bands[{name!r}]", end, ("checked", across.shape)) for end in bands[name])
            axes.fill_between(across, low, high, color=PALETTE[i % len(PALETTE)], alpha=0.18, linewidth=0)
        legend.append((line, name))
    for value, words, colour in ((clean, "all labels right", INK), (before, "labels as given", QUIET)):
        legend.append((axes.axhline(value, color=colour, linewidth=1, linestyle=":"), f"{words}: {value:.1%}"))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    write_labels(axes, "Training data checked (% of examples)", "Test accuracy after fixing and retraining (%)")
    write_heading(axes, title, note)
    write_legend(figure, legend)
    return figure
