"""The distribution of scores."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.scale import SymmetricalLogTransform

from upweight import kinds, scalars
from upweight.plots import checks
from upweight.plots.checks import Array, Values
from upweight.plots.style import (
    INK,
    NAMED,
    NEGATIVE,
    POSITIVE,
    WIDTH,
    new_axes,
    sign_entries,
    styled,
    write_heading,
    write_labels,
    write_legend,
)
from upweight.plots.words import number, with_unit

HEAVY_TAIL = 50.0  # the largest |score| in medians of |score| beyond which a linear axis shows one bar and dust


@styled
def score_histogram(
    scores: Values,
    *,
    unit: str,
    quantity: str,
    signs: tuple[str, str] | None = None,
    bins: int = 60,
    title: str | None = None,
) -> Figure:
    """Distribution of scores with the most extreme ones marked, on logarithmic axes when heavy-tailed.

    Heavy-tailed means that the largest |score| is over 50 times the median one. The score's axis is then
    symmetric logarithmic: linear around zero, up to the power of ten at the median, and logarithmic beyond.

    Parameters
    ----------
    scores
        Any shape, at least one value.
    unit
        The unit of the scores.
    quantity
        What a score is, in words.
    signs
        What a negative and a positive score mean, such as ``("harmful", "helpful")``.
    bins
        About how many bars, of equal width on the axis as drawn; zero is always between two.
    title
        Written above the figure.

    Raises
    ------
    InputError
        No score or a non-finite one.
    """
    kinds.check(score_histogram, locals())
    scalars.whole("bins", bins)
    values = np.sort(checks.numbers("scores", scores), axis=None)
    threshold = heavy_from(values)

    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = new_axes(figure)
    edges = _edges(values, bins)
    if threshold is not None:
        # Equal steps of the drawn axis; equal steps of the score would put all but the tail into one bar.
        axes.set_xscale("symlog", linthresh=threshold)
        axes.set_yscale("log")
        drawn = SymmetricalLogTransform(10, threshold, 1)
        edges = np.asarray(drawn.inverted().transform(_edges(np.asarray(drawn.transform(values)), bins)))
    edges[[0, -1]] = min(edges[0], values[0]), max(edges[-1], values[-1])
    counts, _ = np.histogram(values, edges)
    colours = np.where(edges[1:] <= 0, NEGATIVE, POSITIVE)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours, edgecolor="white", linewidth=0.3)
    axes.axvline(0, color=INK, linewidth=0.8)
    count = min(NAMED // 2, values.size // 2)
    extremes = np.concatenate([values[:count], values[values.size - count :]])
    (marks,) = axes.plot(
        extremes,
        np.full(extremes.size, 0.03),
        linestyle="none",
        marker="v",
        markersize=6,
        color=INK,
        markerfacecolor="white",
        transform=axes.get_xaxis_transform(),
    )
    write_labels(axes, with_unit(quantity, unit), "Number of scores")
    write_heading(
        axes,
        title,
        f"n = {values.size:,} · median {number(np.median(values))} · lowest {number(values[0])} · "
        f"highest {number(values[-1])} · {np.mean(values < 0):.0%} below 0",
    )
    extreme = [(marks, f"{count} lowest and {count} highest")] if count else []
    write_legend(figure, [*sign_entries(values, signs), *extreme])
    return figure


def heavy_from(values: Array) -> float | None:
    """The power of ten at the median |value| when the tails are heavy, else None."""
    sizes = np.abs(values[values != 0])
    if not sizes.size or sizes.max() <= HEAVY_TAIL * np.median(sizes):
        return None
    return float(10.0 ** np.round(np.log10(np.median(sizes))))


def _edges(values: Array, bins: int) -> Array:
    """Edges of equal bins over the sorted values, one of them at zero so that no bar holds both signs."""
    step = float(values[-1] - values[0]) / bins or abs(float(values[0])) or 1.0
    return step * np.arange(np.floor(values[0] / step), np.floor(values[-1] / step) + 2)
