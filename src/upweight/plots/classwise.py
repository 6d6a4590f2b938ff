"""Accuracy by class, before and after a model was changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from upweight import kinds
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Values
from upweight.plots.style import PALETTE, WIDTH, new_axes, styled, write_heading, write_labels, write_legend
from upweight.plots.words import shortened


@styled
def classwise_bars(
    classes: Sequence[object],
    accuracies: Mapping[str, Values],
    *,
    removed: Sequence[int] = (),
    title: str | None = None,
) -> Figure:
    """Bars of each class's accuracy, one for each model, side by side.

    Parameters
    ----------
    classes
        A name for each class, ``[c]``.
    accuracies
        By model (``"before"``, ``"after"`` …), a share in 0 … 1 for each class, ``[c]``.
    removed
        Positions of the classes that were to change; their names are marked.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Empty or mismatched input, or shares outside 0 … 1.
    """
    kinds.check(classwise_bars, locals())
    if not accuracies:
        raise InputError("accuracies: give one or more models")
    values = {name: checks.vector(f"accuracies[{name!r}]", given) for name, given in accuracies.items()}
    names = checks.names("classes", classes, ("accuracies", next(iter(values.values())).shape))
    for name, given in values.items():
        if len(given) != len(names):
            raise InputError(f"accuracies[{name!r}]: got {len(given)}; give one for each of the {len(names)} classes")
        if given.min() < 0 or given.max() > 1:
            raise InputError(f"accuracies[{name!r}]: shares in 0 … 1; got {given.min():g} … {given.max():g}")
    figure = Figure(figsize=(max(WIDTH, 0.55 * len(names)), 3.4), layout="constrained")
    axes = new_axes(figure)
    axes.grid(visible=False, axis="x")
    width = 0.8 / len(values)
    places = np.arange(len(names))
    for number, given in enumerate(values.values()):
        shift = (number - (len(values) - 1) / 2) * width
        axes.bar(places + shift, given, width * 0.92, color=PALETTE[number % len(PALETTE)])
    marked = [f"{shortened(name)}\nchanged" if i in set(removed) else shortened(name) for i, name in enumerate(names)]
    axes.set_xticks(places, marked, parse_math=False)
    axes.set_ylim(0, 1.02)
    write_labels(axes, "class", "accuracy")
    write_heading(axes, title, "")
    patches = [Patch(color=PALETTE[number % len(PALETTE)]) for number in range(len(values))]
    write_legend(figure, list(zip(patches, values, strict=True)))
    return figure
