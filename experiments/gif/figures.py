"""Figures of the experiments on generalised influence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

PROTOCOLS = {"computed": "computed length", "judged": "judged on training images", "paper": "best on the test set"}


def bars(means: dict[str, Any], title: str) -> Figure:
    """Accuracy on the other classes and on the removed one, by method and protocol, with deviations over seeds."""
    methods = [name for name in means if name not in ("base", "retrained")]
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    for row, words in enumerate(("other classes", "removed class")):
        axes = figure.add_subplot(2, 1, row + 1)
        for name, style in (("base", ":"), ("retrained", "--")):
            axes.axhline(100 * means[name]["judged"]["mean"][row], color="black", linestyle=style, label=name)
        for offset, (protocol, label) in zip((-0.27, 0, 0.27), PROTOCOLS.items(), strict=True):
            axes.bar(
                [place + offset for place in range(len(methods))],
                [100 * means[method][protocol]["mean"][row] for method in methods],
                0.26,
                yerr=[100 * means[method][protocol]["deviation"][row] for method in methods],
                label=label,
            )
        axes.set_xticks(range(len(methods)), methods if row else [], rotation=30, ha="right")
        axes.set_ylabel(f"accuracy, {words} (%)")
        if row == 0:
            axes.set_title(title)
            lowest = min(means[method]["judged"]["mean"][0] for method in methods)
            axes.set_ylim(max(0, 100 * lowest - 25), None)
        else:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, fontsize="small", ncols=5, loc="outside lower center")
    return figure


def grouped(found: dict[str, dict[str, list[float]]], parts: Sequence[str], y: str) -> Figure:
    """Bars of several figures for each name, with deviations."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(parts)
    for number, part in enumerate(parts):
        axes.bar(
            [place + (number - (len(parts) - 1) / 2) * width for place in range(len(found))],
            [100 * each["mean"][number] for each in found.values()],
            width,
            yerr=[100 * each["deviation"][number] for each in found.values()],
            label=part,
        )
    axes.set_xticks(range(len(found)), list(found), rotation=25, ha="right")
    axes.set_ylabel(y)
    axes.legend(fontsize="small", ncols=len(parts))
    return figure
