"""Influence measures of a regression's rows: residuals against leverage, and any measure row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from upweight import kinds, scalars
from upweight.errors import InputError
from upweight.plots import checks
from upweight.plots.checks import Array, Values
from upweight.plots.style import (
    NAMED,
    NEGATIVE,
    POSITIVE,
    QUIET,
    WIDTH,
    new_axes,
    point_marks,
    styled,
    write_heading,
    write_labels,
    write_legend,
)
from upweight.plots.words import number, shortened

COOKS: dict[float, Any] = {0.5: "--", 1.0: "-"}
"""The distances drawn beside the customary mark 4/n, as in R's plot of a linear model."""


@styled
def residuals_by_leverage(
    hat: Values,
    residuals: Values,
    parameters: float,
    *,
    labels: Sequence[object] | Values | None = None,
    title: str | None = None,
) -> Figure:
    """Internally studentised residuals over hat values, with curves of equal Cook's distance where they are in sight.

    Cook's distance is r²h/((1 − h)k), so that a curve of distance D is r = ±√(Dk(1 − h)/h).

    Parameters
    ----------
    hat
        Hat values h, ``[n]``.
    residuals
        Internally studentised residuals r, ``[n]``.
    parameters
        K, the effective number of parameters.
    labels
        A name for each row; the rows of largest distance are named.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Empty or mismatched arrays, or no row of which both are numbers.
    """
    kinds.check(residuals_by_leverage, locals())
    k = scalars.number("parameters", parameters, above=0)
    across, up = checks.array("hat", hat).astype(float), checks.array("residuals", residuals).astype(float)
    if across.ndim != 1 or up.shape != across.shape:
        raise InputError(f"residuals: got shape {up.shape} and hat {across.shape}; give one of each for every row")
    names = None if labels is None else checks.names("labels", labels, ("hat", across.shape))
    shown = _defined("residuals", across + up) & (across < 1)
    if not shown.any():
        raise InputError("residuals: every row has leverage 1, where none is defined; there is nothing to draw")
    distance = np.where(shown, up**2 * across / (1 - across) / k, -1.0)
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = new_axes(figure)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.scatter(across[shown], up[shown], color=POSITIVE, zorder=3, **point_marks(int(shown.sum())))
    right = max(1.08 * float(across[shown].max()), 1e-3)
    top = max(1.18 * float(np.abs(up[shown]).max()), 1e-3)
    axes.set_xlim(0, right)
    axes.set_ylim(-top, top)
    places = np.linspace(right / 500, min(right, 1 - 1e-9), 500)
    legend: list[tuple[Any, str]] = []
    for value, dashes in {4 / len(across): "-.", **COOKS}.items():
        curve = np.sqrt(value * k * (1 - places) / places)
        if curve.min() > top or value > max(COOKS):
            continue
        look: dict[str, Any] = {"color": NEGATIVE, "linestyle": dashes, "linewidth": 1.1}
        axes.plot(places, curve, **look)
        axes.plot(places, -curve, **look)
        words = number(value) if value in COOKS else f"4/n = {number(value)}"
        legend.append((Line2D([], [], **look), f"Cook's distance {words}"))
    usual = 2 * k / len(across)
    if usual < right:
        legend.append((axes.axvline(usual, color=QUIET, linewidth=1, linestyle=":"), f"hat 2k/n = {number(usual)}"))
    if names is not None:
        _name(axes, across, up, distance, names)
    write_labels(axes, "hat value", "internally studentised residual")
    parts = [f"n = {shown.sum():,}", f"k = {k:.4g}", f"largest Cook's distance = {number(distance.max())}"]
    write_heading(axes, title, " · ".join(parts + _left_out(shown)))
    write_legend(figure, legend, columns=4)
    return figure


@styled
def measure_by_row(
    values: Values,
    *,
    quantity: str,
    marks: Sequence[float] = (),
    middle: float = 0.0,
    labels: Sequence[object] | Values | None = None,
    title: str | None = None,
) -> Figure:
    """A measure of every row as a stem, in the rows' order, with its customary marks.

    Parameters
    ----------
    values
        The measure, ``[n]``; NaN where it isn't defined.
    quantity
        What it is, in words.
    marks
        Heights of dotted lines.
    middle
        Where stems begin: what the measure is of a row that changes nothing.
    labels
        A name for each row; of those beyond the marks the farthest are named.
    title
        Written above the figure.

    Raises
    ------
    InputError
        Empty or mismatched arrays, or no number among them.
    """
    kinds.check(measure_by_row, locals())
    up = checks.array("values", values).astype(float)
    if up.ndim != 1:
        raise InputError(f"values: got shape {up.shape}; give one dimension, for example by .ravel()")
    lines = [scalars.number("marks", mark) for mark in marks]
    start = scalars.number("middle", middle)
    names = None if labels is None else checks.names("labels", labels, ("values", up.shape))
    shown = _defined("values", up)
    places = np.arange(len(up))
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    axes = new_axes(figure)
    axes.grid(visible=False, axis="x")
    beyond = shown & ((up > max(lines, default=np.inf)) | ((up < min(lines, default=-np.inf)) & (len(lines) > 1)))
    colours = np.where(beyond, NEGATIVE, POSITIVE)
    axes.vlines(places[shown], start, up[shown], color=colours[shown], linewidth=1.0 if len(up) <= 300 else 0.5)
    for mine, colour, marker in ((shown & ~beyond, POSITIVE, "o"), (beyond, NEGATIVE, "s")):
        axes.scatter(places[mine], up[mine], color=colour, marker=marker, zorder=3, **point_marks(len(up)))
    axes.axhline(start, color=QUIET, linewidth=0.8)
    for line in lines:
        axes.axhline(line, color=QUIET, linewidth=1, linestyle=":")
    axes.margins(x=0.03, y=0.12)
    if names is not None:
        _name(axes, places.astype(float), up, np.where(beyond, np.abs(up - start), -1.0), names)
    legend: list[tuple[Any, str]] = []
    if lines:
        words = " and ".join(number(line) for line in lines)
        legend.append((Line2D([], [], color=QUIET, linestyle=":", linewidth=1), f"customary mark: {words}"))
    write_labels(axes, "row", quantity)
    parts = [f"n = {shown.sum():,}"] + ([f"{beyond.sum()} beyond the mark"] if lines else [])
    write_heading(axes, title, " · ".join(parts + _left_out(shown)))
    write_legend(figure, legend)
    return figure


def _defined(name: str, values: Array) -> Array:
    """Where there is a number; refuses arrays without any."""
    found = np.isfinite(values)
    if not found.any():
        raise InputError(f"{name}: none of {found.size} values is defined; there is nothing to draw")
    return np.asarray(found)


def _left_out(shown: Array) -> list[str]:
    return [] if shown.all() else [f"{(~shown).sum()} not defined, left out"]


def _name(axes: Axes, x: Array, y: Array, weight: Array, names: list[str]) -> None:
    """The names of the few points of largest weight, beside them."""
    for i in np.argsort(-weight, kind="stable")[:NAMED]:
        if weight[i] > 0:
            late = x[i] > float(np.mean(axes.get_xlim()))
            axes.annotate(
                shortened(names[i], 20),
                (x[i], y[i]),
                xytext=(-6 if late else 6, 3),
                textcoords="offset points",
                ha="right" if late else "left",
                fontsize=8.5,
                parse_math=False,
            )
