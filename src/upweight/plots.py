"""Figures of attributions, as pure functions from arrays to a matplotlib ``Figure``.

Conventions of this room:

- Arrays may be numpy, torch (any device, any float type) or nested lists. Nothing given is changed.
- A figure belongs to the caller: it is never registered with pyplot, so there is nothing to close; save it
  with ``figure.savefig`` or put it into a ``upweight.report.Report``.
- Blue stands for positive and vermilion for negative scores (Okabe and Ito's palette, safe for the
  colour-blind); marker, line style, side of zero or words say the same as the colour.
- User text is drawn as it is: a ``$`` in an example's id is a dollar sign, not mathematics.
- Empty, mismatched or non-finite input raises ``InputError`` (a ``ValueError``) naming the argument, the
  value and the mend.
"""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy import stats

from upweight.messages import InputError

__all__ = [
    "example_grid",
    "influence_against",
    "perturbation",
    "pixels",
    "predicted_against_actual",
    "ranking_bars",
    "recovery_curve",
    "score_histogram",
]

Values = npt.ArrayLike | torch.Tensor
Array = npt.NDArray[Any]

POSITIVE, NEGATIVE, INK, QUIET, FAINT = "#0072B2", "#D55E00", "#222222", "#595959", "#E4E4E4"
PALETTE = (POSITIVE, NEGATIVE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = "osD^vPX*"  # one more than colours, so that the pairs of both repeat only after 56 groups
DASHES = ("-", "--", "-.", (0, (1, 1)))
WIDTH = 7.2  # inches: 720 px at 100 dots per inch, the width these figures are drawn to be read at
HEAVY_TAIL = 50.0  # the largest |score| in medians of |score| beyond which a linear axis shows one bar and dust
NAMED = 8  # points or extremes written out; more would cover one another
BARS = 200

# The user's own style (dark background, TeX …) would make the same report differ from machine to machine.
_styled = style.context(
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


@_styled
def predicted_against_actual(
    predicted: Values,
    actual: Values,
    *,
    unit: str = "",
    quantity: str = "change",
    standard_error: Values | None = None,
    predicted_standard_error: Values | None = None,
    labels: Sequence[object] | None = None,
    title: str | None = None,
    statistics: bool = True,
) -> Figure:
    """Scatter of what retraining did over what was predicted, with the diagonal of perfect agreement.

    The prediction lies on the horizontal axis, so that the slope that is written (of ``actual`` regressed on
    ``predicted``, with intercept) is the slope that is seen: above 1, the predictions are too small.

    Args:
        predicted: predicted changes, ``[pairs]``.
        actual: changes found by retraining, ``[pairs]``, in the same unit.
        unit: the unit of both, such as ``"nats"``.
        quantity: what is predicted, in words.
        standard_error: of ``actual``, ``[pairs]``: vertical error bars of one standard error.
        predicted_standard_error: of ``predicted``, ``[pairs]``: horizontal error bars.
        labels: a name for each pair; those farthest from the diagonal are written.
        title: written above the figure.
        statistics: write n, Pearson's r, Spearman's ρ and the slope, and draw the fitted line.

    Raises:
        InputError: empty, mismatched or non-finite arrays; a negative standard error.
    """
    x = _vector("predicted", predicted)
    y = _vector("actual", actual, ("predicted", x.size))
    x_error = _errors("predicted_standard_error", predicted_standard_error, x.size)
    y_error = _errors("standard_error", standard_error, x.size)
    names = None if labels is None else _names("labels", labels, ("predicted", x.size))

    figure = Figure(figsize=(6.0, 6.2), layout="constrained")
    axes = _axes(figure)
    limits = _limits(np.concatenate([x - x_error, x + x_error, y - y_error, y + y_error]))
    axes.set(xlim=limits, ylim=limits)
    axes.set_aspect("equal", adjustable="box")
    (diagonal,) = axes.plot(limits, limits, color=QUIET, linewidth=1, linestyle="--")
    legend: list[tuple[Any, str]] = [(diagonal, "actual = predicted")]
    if x_error.any() or y_error.any():
        bars = axes.errorbar(
            x,
            y,
            xerr=x_error if x_error.any() else None,
            yerr=y_error if y_error.any() else None,
            fmt="none",
            ecolor=POSITIVE,
            elinewidth=0.8,
            alpha=0.5,
        )
        legend.append((bars, "± 1 standard error"))
    axes.scatter(x, y, color=POSITIVE, zorder=3, **_marks(x.size))
    note = ""
    if statistics:
        note, line = _agreement(x, y)
        if line is not None:
            ends = np.array([x.min(), x.max()])
            (fit,) = axes.plot(ends, line[0] * ends + line[1], color=NEGATIVE, linewidth=1.4)
            legend.append((fit, "least-squares line"))
    if names is not None:
        for i in np.argsort(-np.abs(y - x), kind="stable")[:NAMED]:
            axes.annotate(
                names[i],
                (x[i], y[i]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=8,
                color=QUIET,
                parse_math=False,
            )
    _label(axes, _with_unit(f"Predicted {quantity}", unit), _with_unit(f"Actual {quantity}", unit))
    _heading(axes, title, note)
    _legend(figure, legend)
    return figure


@_styled
def recovery_curve(
    orders: Mapping[str, Values],
    flipped: Values,
    *,
    quantity: str = "flipped labels",
    title: str | None = None,
) -> Figure:
    """Share of the flipped labels found against the share of the training data checked, one line per method.

    The legend says how much each method found by checking as many examples as labels were flipped.

    Args:
        orders: for each method the training positions in the order in which they are checked, ``[k]`` with
            ``k ≤ n``, each position at most once.
        flipped: whether each training label was flipped, ``[n]`` of bool.
        quantity: what is looked for, in words.
        title: written above the figure.

    Raises:
        InputError: no method, no flipped label, a position out of range or checked twice.
    """
    truth = _mask("flipped", flipped)
    if not orders:
        raise InputError("orders: got no method; give at least one name with its order of training positions")
    checks = {name: _order(f"orders[{name!r}]", positions, truth.size) for name, positions in orders.items()}
    n, total = truth.size, int(truth.sum())

    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = _axes(figure)
    legend: list[tuple[Any, str]] = []
    for i, (name, order) in enumerate(checks.items()):
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
    _label(axes, "Training data checked (% of examples)", f"{quantity[:1].upper()}{quantity[1:]} found (%)")
    _heading(axes, title, f"n = {n} · {total} {quantity} ({total / n:.1%})")
    _legend(figure, legend, columns=1)
    return figure


@_styled
def example_grid(
    images: Sequence[Values] | Values,
    captions: Sequence[object],
    *,
    columns: int = 5,
    title: str | None = None,
) -> Figure:
    """Grid of images, row by row, with a caption under each.

    Args:
        images: k images, each in a form that :func:`pixels` takes.
        captions: k captions.
        columns: images in a row.
        title: written above the grid.

    Raises:
        InputError: no image, another number of captions, an array that is no image.
    """
    shown = pixels(images)
    texts = _names("captions", captions, ("images", len(shown)))
    if columns < 1:
        raise InputError(f"columns: got {columns}; give a whole number of at least 1")
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    cell = min(WIDTH / columns, 2.4)
    wrapped = [textwrap.fill(text, max(8, round(cell * 13))) for text in texts]
    lines = max(text.count("\n") + 1 for text in wrapped)
    tall = max(image.shape[0] / image.shape[1] for image in shown)
    height = (cell * min(tall, 3.0) + 0.17 * lines + 0.1) * rows + (0.35 if title else 0)
    figure = Figure(figsize=(cell * columns, height), layout="constrained")
    for i, (image, text) in enumerate(zip(shown, wrapped, strict=True)):
        _show(figure.add_subplot(rows, columns, i + 1), image, text)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    return figure


@_styled
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

    Args:
        scores: any shape, at least one value.
        unit: the unit of the scores.
        quantity: what a score is, in words.
        signs: what a negative and a positive score mean, such as ``("harmful", "helpful")``.
        bins: about how many bars, of equal width on the axis as drawn; zero is always between two.
        title: written above the figure.

    Raises:
        InputError: no score or a non-finite one.
    """
    values = np.sort(_finite("scores", _array("scores", scores).astype(float)).ravel())
    threshold = _heavy(values)

    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = _axes(figure)
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
    _label(axes, _with_unit(quantity, unit), "Number of scores")
    _heading(
        axes,
        title,
        f"n = {values.size} · median {_number(np.median(values))} · lowest {_number(values[0])} · "
        f"highest {_number(values[-1])} · {np.mean(values < 0):.0%} below 0",
    )
    extreme = [(marks, f"{count} lowest and {count} highest")] if count else []
    _legend(figure, [*_sign_entries(values, signs), *extreme])
    return figure


@_styled
def influence_against(
    x: Values,
    scores: Values,
    *,
    xlabel: str,
    unit: str,
    groups: Sequence[Hashable] | Values | None = None,
    quantity: str = "Influence",
    title: str | None = None,
) -> Figure:
    """Scatter of influence over another quantity of the training examples, coloured by group.

    With the distance to the query for ``x`` and the class for ``groups``: Figure 4 of Koh & Liang (2017).
    Heavy-tailed scores are drawn on the symmetric logarithmic axis of :func:`score_histogram`.

    Args:
        x: one value for each training example, ``[n]``.
        scores: influence of each, ``[n]``.
        xlabel: what ``x`` is, with its unit.
        unit: the unit of the scores.
        groups: the group of each example, ``[n]`` of anything hashable; drawn in order of appearance.
        quantity: what a score is, in words.
        title: written above the figure.

    Raises:
        InputError: empty, mismatched or non-finite arrays.
    """
    across = _vector("x", x)
    values = _vector("scores", scores, ("x", across.size))
    members = [""] * across.size if groups is None else _names("groups", groups, ("x", across.size))

    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = _axes(figure)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    threshold = _heavy(values)
    if threshold is not None:
        axes.set_yscale("symlog", linthresh=threshold)
    legend: list[tuple[Any, str]] = []
    column = np.array(members, dtype=object)
    for i, group in enumerate(dict.fromkeys(members)):
        mine = column == group
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        axes.scatter(across[mine], values[mine], color=colour, marker=marker, zorder=3, **_marks(values.size))
        # A handle of its own: the points themselves may be too faint to read a legend by.
        handle = Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=6)
        legend.append((handle, f"{group} (n = {mine.sum()})"))
    _label(axes, xlabel, _with_unit(quantity, unit))
    _heading(
        axes,
        title,
        " · ".join([f"n = {values.size}", *_correlation("Spearman ρ", stats.spearmanr, across, values)]),
    )
    if groups is not None:
        _legend(figure, legend)
    return figure


@_styled
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

    Args:
        labels: a name for each example, ``[k]``; long ones are shortened in the middle.
        scores: ``[k]``, at most 200: the most helpful and the most harmful, not all.
        unit: the unit of the scores.
        quantity: what a score is, in words.
        signs: what a negative and a positive score mean. The default is right for the quantity ``removal``.
        title: written above the figure.

    Raises:
        InputError: empty, mismatched or non-finite input; more bars than can be read.
    """
    values = _vector("scores", scores)
    names = _names("labels", labels, ("scores", values.size))
    if values.size > BARS:
        raise InputError(f"scores: got {values.size}, which no one can read as bars; give the top {BARS} or fewer")
    order = np.argsort(values, kind="stable")
    values = values[order]

    figure = Figure(figsize=(WIDTH, 1.3 + 0.27 * values.size), layout="constrained")
    axes = _axes(figure)
    axes.grid(visible=False, axis="y")
    bars = axes.barh(np.arange(values.size), values, color=np.where(values < 0, NEGATIVE, POSITIVE), height=0.7)
    axes.bar_label(bars, [_number(value) for value in values], padding=3, fontsize=8.5, color=QUIET)
    axes.set_yticks(np.arange(values.size), [_shortened(names[i]) for i in order], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_ylim(-0.7, values.size - 0.3)
    axes.margins(x=0.2)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    _label(axes, _with_unit(quantity, unit), "")
    _heading(axes, title, f"n = {values.size} shown")
    _legend(figure, _sign_entries(values, signs))
    return figure


@_styled
def perturbation(
    original: Values,
    gradient: Values,
    *,
    unit: str = "",
    quantity: str = "gradient",
    caption: str = "input",
    title: str | None = None,
) -> Figure:
    """Draw an input image beside the signed gradient with respect to its pixels.

    Args:
        original: the image, in a form that :func:`pixels` takes.
        gradient: of the same shape, or ``[height, width]``; the gradients of colour channels are added up,
            which is the effect of making a pixel brighter in all of them.
        unit: the unit of the gradient, such as ``"nats per unit of pixel"``.
        quantity: what the gradient is of, in words.
        caption: written under the image.
        title: written above the figure.

    Raises:
        InputError: arrays that are no images or do not fit each other; non-finite values.
    """
    image = pixels([original])[0]
    slopes = _channels_last("gradient", _finite("gradient", _array("gradient", gradient).astype(float)))
    slopes = slopes.sum(-1) if slopes.ndim == 3 else slopes
    if slopes.shape != image.shape[:2]:
        raise InputError(
            f"gradient: its height and width are {slopes.shape}, those of original {image.shape[:2]}; "
            "give the gradient with respect to this very image"
        )
    bound = float(np.abs(slopes).max())

    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    _show(figure.add_subplot(1, 2, 1), image, caption)
    right = figure.add_subplot(1, 2, 2)
    words = f"largest |value| {_number(bound)} · ‖·‖ = {_number(float(np.linalg.norm(slopes)))}"
    drawn = _show(right, slopes, words, cmap="RdBu", vmin=-(bound or 1.0), vmax=bound or 1.0)
    bar = figure.colorbar(drawn, ax=right, fraction=0.046, pad=0.03)
    bar.set_label(_with_unit(quantity, unit), fontsize=9, parse_math=False)
    bar.ax.tick_params(labelsize=8.5, width=0.7)
    bar.outline.set_linewidth(0.5)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    return figure


def pixels(images: Sequence[Values] | Values) -> list[npt.NDArray[np.uint8]]:
    """The images as bytes to show, each ``[height, width]`` or ``[height, width, 3]``.

    Taken are ``[height, width]``, ``[height, width, 1 or 3]`` and ``[1 or 3, height, width]``; where both of
    the latter fit, the channels are last. Bytes are shown as they are, other numbers within 0 … 1 as black …
    white. Numbers beyond that (normalised images, the digits' 0 … 16) are stretched from the least to the
    greatest of *all* images given, so that images shown together stay comparable.

    Raises:
        InputError: no image, an empty or non-finite one, or an array of another shape.
    """
    if len(images) == 0:  # type: ignore[arg-type]
        raise InputError("images: got none; give at least one image")
    arrays = [
        _channels_last(f"images[{i}]", _finite(f"images[{i}]", _array(f"images[{i}]", image)))
        for i, image in enumerate(images)  # type: ignore[arg-type]
    ]
    numbers = [array for array in arrays if array.dtype != np.uint8]
    low = min((float(array.min()) for array in numbers), default=0.0)
    high = max((float(array.max()) for array in numbers), default=1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    span = (high - low) or 1.0
    return [
        array if array.dtype == np.uint8 else np.rint((array.astype(float) - low) / span * 255).astype(np.uint8)
        for array in arrays
    ]


def _array(name: str, values: Any) -> Array:
    """Numbers as a non-empty numpy array; bfloat16, which numpy lacks, becomes float32."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
        array = values.resolve_conj().resolve_neg().numpy()
    else:
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise InputError(f"{name}: got rows of different lengths; give one rectangular array") from error
    if array.dtype.kind not in "buif":
        raise InputError(f"{name}: got dtype {array.dtype}; give real numbers")
    if array.size == 0:
        raise InputError(f"{name}: got an empty array of shape {array.shape}; give at least one value")
    return array


def _finite(name: str, array: Array) -> Array:
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        at = tuple(wrong[0].tolist())
        where = at[0] if len(at) == 1 else at
        raise InputError(
            f"{name}: {len(wrong)} of {array.size} values are not finite (first {array[at]} at {where}); "
            "leave these out, or find out why they were computed so, before drawing"
        )
    return array


def _vector(name: str, values: Any, partner: tuple[str, int] | None = None) -> Array:
    """Finite float64 numbers ``[n]``, with the n of the named partner."""
    array = _finite(name, _array(name, values).astype(float))
    if array.ndim != 1:
        raise InputError(f"{name}: got shape {array.shape}; give one dimension, for example by .ravel()")
    _same_length(name, array.size, partner)
    return array


def _same_length(name: str, length: int, partner: tuple[str, int] | None) -> None:
    if partner is not None and length != partner[1]:
        raise InputError(f"{name}: got {length}, but {partner[0]} has {partner[1]}; give one for each")


def _errors(name: str, values: Any, size: int) -> Array:
    """Standard errors ``[n]``; zero where none are given."""
    if values is None:
        return np.zeros(size)
    array = _vector(name, values, ("predicted", size))
    if array.min() < 0:
        raise InputError(f"{name}: got the negative value {array.min()}; a standard error is at least 0")
    return array


def _names(name: str, values: Iterable[object] | Values, partner: tuple[str, int]) -> list[str]:
    items = values.tolist() if isinstance(values, torch.Tensor | np.ndarray) else list(values)  # type: ignore[arg-type]
    _same_length(name, len(items), partner)
    return [str(item) for item in items]


def _mask(name: str, values: Any) -> Array:
    array = _array(name, values)
    if array.ndim != 1 or not np.isin(array, (0, 1)).all():
        raise InputError(f"{name}: got shape {array.shape} of {array.dtype}; give one True or False per example")
    if not array.any():
        raise InputError(f"{name}: none of {array.size} is True, so there is nothing to find; mark at least one")
    return array.astype(bool)


def _order(name: str, values: Any, n: int) -> npt.NDArray[np.int64]:
    array = _vector(name, values)
    order = array.astype(np.int64)
    if (order != array).any() or order.min() < 0 or order.max() >= n:
        wrong = array[(order != array) | (order < 0) | (order >= n)][0]
        raise InputError(f"{name}: got {wrong:g}, which is no training position; give whole numbers in 0 … {n - 1}")
    distinct, times = np.unique(order, return_counts=True)
    if distinct.size < order.size:
        twice = distinct[times > 1][0]
        raise InputError(f"{name}: position {twice} is checked {times.max()} times; give each at most once")
    return order


def _channels_last(name: str, array: Array) -> Array:
    """``[height, width]`` or ``[height, width, 3]``."""
    if array.ndim == 3 and array.shape[-1] not in (1, 3) and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
        return array
    raise InputError(f"{name}: got shape {array.shape}; give [H, W], [H, W, 1 or 3] or [1 or 3, H, W]")


def _correlation(word: str, measure: Any, x: Array, y: Array) -> list[str]:
    """The statistic in words, or nothing where it is undefined."""
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return []
    return [f"{word} = {_number(measure(x, y).statistic)}"]


def _agreement(x: Array, y: Array) -> tuple[str, tuple[float, float] | None]:
    """The statistics in words, and slope and intercept of y regressed on x where they are defined."""
    words = [f"n = {x.size}"]
    words += _correlation("Pearson r", stats.pearsonr, x, y) + _correlation("Spearman ρ", stats.spearmanr, x, y)
    if len(words) == 1:
        words.append("correlation undefined" + ("" if x.size < 2 else ": all values of one side are equal"))
    if x.size < 2 or np.ptp(x) == 0:
        return " · ".join(words), None
    line = stats.linregress(x, y)
    return " · ".join([*words, f"slope = {_number(line.slope)}"]), (float(line.slope), float(line.intercept))


def _heavy(values: Array) -> float | None:
    """The power of ten at the median |value| when the tails are heavy, else None."""
    sizes = np.abs(values[values != 0])
    if not sizes.size or sizes.max() <= HEAVY_TAIL * np.median(sizes):
        return None
    return float(10.0 ** np.round(np.log10(np.median(sizes))))


def _edges(values: Array, bins: int) -> Array:
    """Edges of equal bins over the sorted values, one of them at zero so that no bar holds both signs."""
    step = float(values[-1] - values[0]) / bins or abs(float(values[0])) or 1.0
    return step * np.arange(np.floor(values[0] / step), np.floor(values[-1] / step) + 2)


def _limits(values: Array) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _shortened(text: str, most: int = 36) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def _with_unit(words: str, unit: str) -> str:
    return f"{words} ({unit})" if unit else words


def _marks(n: int) -> dict[str, Any]:
    """Size and opacity of n points: many are small and faint, so that dense regions still show."""
    return {"s": 26 if n <= 300 else 12, "alpha": float(np.clip(300 / n, 0.3, 0.85)), "linewidths": 0}


def _axes(figure: Figure) -> Axes:
    axes = figure.add_subplot()
    # Ticks are made when drawn, outside the style: what they should look like is set on the axes themselves.
    axes.tick_params(which="both", labelsize=9, width=0.7, color=QUIET, labelcolor=INK, direction="out")
    axes.grid(visible=True, color=FAINT, linewidth=0.7, linestyle="-")
    axes.set_axisbelow(True)
    # A power of ten common to all ticks stands at the right, since the statistics stand at the left.
    axes.yaxis.set_offset_position("right")
    return axes


def _show(axes: Axes, image: Array, caption: str, **colours: Any) -> Any:
    gray: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.ndim == 2 and not colours else {}
    drawn = axes.imshow(image, interpolation="nearest", **gray, **colours)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, linewidth=0.5)
    axes.set_xlabel(caption, fontsize=9, parse_math=False)
    return drawn


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, parse_math=False)
    axes.set_ylabel(y, parse_math=False)


def _heading(axes: Axes, title: str | None, note: str) -> None:
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


def _sign_entries(values: Array, signs: tuple[str, str] | None) -> list[tuple[Any, str]]:
    if signs is None:
        return []
    negative, positive = signs
    entries = [
        (Patch(color=NEGATIVE), f"negative: {negative}", (values < 0).any()),
        (Patch(color=POSITIVE), f"positive: {positive}", (values > 0).any()),
    ]
    return [(patch, words) for patch, words, present in entries if present]


def _legend(figure: Figure, entries: list[tuple[Any, str]], columns: int = 3) -> None:
    """A legend under the axes, so that it covers no point."""
    if not entries:
        return
    handles = [handle for handle, _ in entries]
    legend = figure.legend(handles, [str(i) for i in range(len(entries))], loc="outside lower left", ncols=columns)
    # legend() itself leaves out a name that begins with "_" and sets one with "$" as mathematics.
    for text, (_, words) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(words)
