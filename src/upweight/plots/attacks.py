"""Training-set attacks: how p(true label) fell, and what was changed in the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from upweight import kinds
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Array, Values
from upweight.plots.images import show
from upweight.plots.pictured import channels_last, pixels
from upweight.plots.style import (
    NEGATIVE,
    POSITIVE,
    QUIET,
    WIDTH,
    new_axes,
    styled,
    write_heading,
    write_labels,
    write_legend,
)


@styled
def attack_paths(
    probabilities: Values,
    flipped: Values,
    *,
    threshold: float | None = 0.5,
    note: str = "",
    title: str | None = None,
) -> Figure:
    """One line per attack: p(true label) of its target after each step, down to where it was flipped or gave up.

    Parameters
    ----------
    probabilities
        ``[attacks, steps]``, nan after an attack's last step.
    flipped
        Whether each ended with a wrong prediction, ``[attacks]``.
    threshold
        P below which the prediction is wrong; None where there are more than two classes.
    note
        Statistics, written under the title.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Arrays that are empty or don't fit each other.
    """
    kinds.check(attack_paths, locals())
    paths = checks.array("probabilities", probabilities)
    ended = checks.array("flipped", flipped).astype(bool)
    if paths.ndim != 2 or ended.shape != paths.shape[:1]:
        raise InputError(f"flipped: got shape {ended.shape}; give one for each row of probabilities {paths.shape}")
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = new_axes(figure)
    for path, wrong in zip(paths, ended, strict=True):
        known = path[~np.isnan(path)]
        colour = NEGATIVE if wrong else POSITIVE
        axes.plot(np.arange(len(known)), known, color=colour, alpha=0.55, linewidth=1.1)
        axes.plot(len(known) - 1, known[-1], color=colour, marker="X" if wrong else "o", markersize=5)
    if threshold is not None:
        axes.axhline(threshold, color=QUIET, linestyle="--", linewidth=0.9)
    axes.set_ylim(-0.02, 1.02)
    write_labels(axes, "step", "p(true label) after retraining")
    write_heading(axes, title, note)
    handles = [
        (Line2D([], [], color=NEGATIVE, marker="X"), f"flipped ({ended.sum()})"),
        (Line2D([], [], color=POSITIVE, marker="o"), f"held ({(~ended).sum()})"),
    ]
    write_legend(figure, handles)
    return figure


@styled
def changed_images(
    stored: Sequence[Values] | Values,
    changes: Sequence[Values] | Values,
    captions: Sequence[object],
    *,
    title: str | None = None,
) -> Figure:
    """Stored images above, and under each its change in levels, far enlarged: the images themselves look the same.

    Parameters
    ----------
    stored
        K images in bytes.
    changes
        K changes in levels, of the images' shapes; colour channels are averaged.
    captions
        K captions, above each.
    title
        Written above the figure.

    Raises
    ------
    InputError
        No image, other numbers of changes or captions, shapes that differ.
    """
    kinds.check(changed_images, locals())
    shown = pixels(stored)
    texts = checks.names("captions", captions, ("stored", (len(shown),)))
    moved = [_in_one_channel(f"changes[{i}]", change) for i, change in enumerate(checks.several("changes", changes))]
    if [change.shape for change in moved] != [image.shape[:2] for image in shown]:
        raise InputError(f"changes: got {len(moved)}; give one of equal shape for each of the {len(shown)} images")
    bound = max(float(np.abs(change).max()) for change in moved) or 1.0
    cell = min(WIDTH / len(shown), 2.2)
    figure = Figure(figsize=(max(cell * len(shown) + 0.8, 3.4), cell * 2 + 0.9), layout="constrained")
    grid = figure.subplots(2, len(shown), squeeze=False)
    for i, (image, change, text) in enumerate(zip(shown, moved, texts, strict=True)):
        show(grid[0, i], image, "")
        grid[0, i].set_title(text, fontsize=9, fontweight="normal", loc="center", parse_math=False)
        drawn = show(grid[1, i], change, "", cmap="RdBu", vmin=-bound, vmax=bound)
    bar = figure.colorbar(drawn, ax=grid.ravel().tolist(), fraction=0.046, pad=0.02, shrink=0.6)
    bar.set_label("change (levels of 255)", fontsize=9)
    bar.ax.tick_params(labelsize=8.5, width=0.7)
    bar.outline.set_linewidth(0.5)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    return figure


def _in_one_channel(name: str, change: Values) -> Array:
    array = channels_last(name, checks.numbers(name, change))
    return array.mean(-1) if array.ndim == 3 else array
