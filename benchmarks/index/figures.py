"""LDS against bytes of an example, a line for each way to make rows, in the style of `upweight.plots`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from upweight.plots.style import (
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

NAME = "agreement.png"
LINES = {
    "Leading, GGN": ("Leading(", "int8, GGN"),
    "Leading, empirical Fisher": ("Leading(", "int8, empirical Fisher"),
    "Factored, eigenvectors": ("Factored(", "basis='leading'"),
    "Factored, random": ("Factored(", "basis='random'"),
    "Sparse": ("Sparse(", "int8"),
    "LowRank": ("LowRank(", "coefficients=False"),
}
"""What a case's name begins with and holds, by the line's name."""


def lines(agreement: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Bytes over those of a raw gradient, and LDS, by line."""
    found = {}
    for name, (begin, held) in LINES.items():
        rows = [row for case, row in agreement.items() if case.startswith(begin) and held in case and "int8" in case]
        points = sorted((row["share"], row["lds"]) for row in rows if "failed" not in row)
        if points:
            found[name] = points
    return found


def write(agreement: dict[str, Any], folder: Path) -> bool:
    """The figure in the folder, if there is anything to draw."""
    there = lines(agreement)
    exact = agreement.get("exact, GGN", {}).get("lds")
    if there:
        figure(there, exact).savefig(folder / NAME, dpi=110)
    return bool(there)


@styled
def figure(found: dict[str, list[tuple[float, float]]], exact: float | None) -> Figure:
    """One panel."""
    drawn = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = new_axes(drawn)
    legend: list[tuple[Any, str]] = []
    for number, (name, points) in enumerate(found.items()):
        x, y = zip(*((100 * share, lds) for share, lds in points), strict=True)
        (line,) = axes.plot(x, y, color=PALETTE[number], marker=MARKERS[number], markersize=5)
        legend.append((line, name))
    if exact is not None:
        legend.append((axes.axhline(exact, color=QUIET, linewidth=1.2, linestyle=":"), "exact GGN, no index"))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    write_labels(axes, "Bytes of an example in int8, % of its gradient in float32", "LDS at the automatic damping")
    write_heading(axes, "Agreement with retraining against storage", "mnist-mlp")
    write_legend(drawn, legend, columns=3)
    return drawn
