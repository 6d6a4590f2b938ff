"""LDS against seconds, a figure per task, in the style of `upweight.plots`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.fidelity.environments import PEERS
from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.record import Found, total
from benchmarks.fidelity.targets import finished
from upweight.plots.style import (
    INK,
    MARKERS,
    PALETTE,
    POSITIVE,
    QUIET,
    WIDTH,
    new_axes,
    styled,
    write_heading,
    write_labels,
    write_legend,
)

FOLDER = Path(__file__).parent
COLOURS = PALETTE[1:]
NEAR = (1.0, 0.02)
"""Difference of log seconds and of LDS below which two labels would overlap."""


def write(found: Found) -> list[str]:
    """A figure for each task that has results; returns the tasks."""
    tasks = [task for task in found["tasks"] if finished(found, task)]
    for task in tasks:
        figure(found, task).savefig(FOLDER / f"{task}.png", dpi=110)
    return tasks


@styled
def figure(found: Found, task: str) -> Figure:
    """Every row with a score: ours filled, by the automatic damping alone; peers hollow, at their default or best."""
    rows = {
        name: row for name, row in finished(found, task).items() if row["system"] != OURS or row["damping"] == "default"
    }
    drawn = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = new_axes(drawn)
    axes.set_xscale("log")
    legend: list[tuple[Any, str]] = []
    present = {row["system"] for row in rows.values()}
    for number, system in enumerate((OURS, *sorted(PEERS))):  # a system looks the same in every figure
        if system not in present:
            continue
        mine = [row for row in rows.values() if row["system"] == system]
        look: dict[str, Any] = (
            {"color": POSITIVE, "s": 34, "linewidths": 0, "zorder": 3}
            if system == OURS
            else {"facecolors": "none", "edgecolors": COLOURS[number % len(COLOURS) - 1], "s": 36, "linewidths": 1.3}
        )
        points = ([total(row) for row in mine], [row["lds"] for row in mine])
        legend.append((axes.scatter(*points, marker=MARKERS[number % len(MARKERS)], **look), system))
    facts = found["tasks"][task]
    if "ceiling" in facts:
        line = axes.axhline(facts["ceiling"], color=QUIET, linewidth=1.2, linestyle="--")
        legend.append((line, "a perfect predictor"))
    if "floor" in facts:
        line = axes.axvline(facts["floor"], color=QUIET, linewidth=1.2, linestyle=":")
        legend.append((line, "one forward and backward"))
    axes.margins(x=0.12, y=0.08)
    for name, row in labelled(front(rows)).items():
        place = (total(row), row["lds"])
        axes.annotate(
            name.split(": ", 1)[1],
            place,
            xytext=(-7, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=INK,
            parse_math=False,
        )
    write_labels(axes, "Seconds of fitting and scoring, training of further models included", "LDS")
    sizes = f"n = {facts['n']:,} · p = {facts['p']:,} · {facts['queries']} queries"
    note = f"{sizes} · {facts['subsets']} halves, averaged seeds"
    write_heading(axes, f"Fidelity against time: {task}", note)
    write_legend(drawn, legend, columns=4)
    return drawn


def labelled(rows: dict[str, Any]) -> dict[str, Any]:
    """Of rows that nearly coincide the first alone, so that labels don't overlap."""
    kept: dict[str, Any] = {}
    for name, row in rows.items():
        near = (abs(math.log(total(row) / total(other))) < NEAR[0] and abs(row["lds"] - other["lds"]) < NEAR[1]
                for other in kept.values())  # fmt: skip
        if not any(near):
            kept[name] = row
    return kept


def front(rows: dict[str, Any]) -> dict[str, Any]:
    """Our rows that none of ours beats both in LDS and in time."""
    ours = {name: row for name, row in rows.items() if row["system"] == OURS}
    return {
        name: row
        for name, row in ours.items()
        if not any(other["lds"] > row["lds"] and total(other) <= total(row) for other in ours.values())
    }
