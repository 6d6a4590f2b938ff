"""Multiples of the floor by stage, a bar for each system on each problem, in the style of `upweight.plots`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.throughput.record import Found
from benchmarks.throughput.tables import STAGES
from upweight.plots.style import PALETTE, QUIET, WIDTH, new_axes, styled, write_heading, write_labels, write_legend

NAME = "stages.png"


def write(found: Found, folder: Path) -> bool:
    """The figure in the folder, if there is anything to draw."""
    if there := bars(found):
        figure(there).savefig(folder / NAME, dpi=110)
    return bool(there)


def bars(found: Found) -> dict[str, list[float]]:
    """Stages in multiples of the floor, by the bar's name."""
    return {
        f"{problem}, {precision}: {system}": [row["stages"].get(stage, 0.0) / row["floor"] for stage in STAGES]
        for problem, cases in found.items()
        for precision, case in cases.items()
        for system, row in case["rows"].items()
        if "failed" not in row
    }


def cut(ends: list[float]) -> float:
    """Where bars are cut off: one that is several times longer than all others would hide them."""
    *_, second, first = sorted([0.0, *ends])
    return first if first < 3 * second or not second else 1.1 * second


@styled
def figure(bars: dict[str, list[float]]) -> Figure:
    """Horizontal bars, from the top down."""
    drawn = Figure(figsize=(WIDTH, 1.5 + 0.32 * len(bars)), layout="constrained")
    axes = new_axes(drawn)
    places, ends = range(len(bars)), [0.0] * len(bars)
    legend: list[tuple[Any, str]] = []
    for number, stage in enumerate(STAGES):
        widths = [bar[number] for bar in bars.values()]
        legend.append((axes.barh(places, widths, left=ends, height=0.7, color=PALETTE[number]), stage))
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    edge = cut(ends)
    for place, end in zip(places, ends, strict=True):
        words, at, side = (f"{end:.1f}", end, 1) if end <= edge else (f"{end:.1f}, cut off", 1.14 * edge, -1)
        aligned = "left" if side > 0 else "right"
        axes.annotate(
            words, (at, place), (4 * side, 0), textcoords="offset points", va="center", ha=aligned, fontsize=8
        )
    axes.axvline(1, color=QUIET, linewidth=1.2, linestyle=":")
    axes.set_yticks(list(places), list(bars))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.14 * edge)
    write_labels(axes, "Multiples of one forward and backward pass over the training data", "")
    write_heading(axes, "EK-FAC by stage", "dotted: the floor, 1")
    write_legend(drawn, legend, columns=5)
    return drawn
