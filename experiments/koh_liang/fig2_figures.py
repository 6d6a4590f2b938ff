"""The figures of Figure 2, right: scatters against three counterfactuals, and what damping and training cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from upweight.plots.style import PALETTE, POSITIVE, QUIET, styled

Numbers = Mapping[str, float]


@styled
def scatters(panels: Mapping[str, tuple[Tensor, Tensor, Numbers]]) -> Figure:
    """Actual over predicted change of the test loss, a panel each: name -> (predicted, actual, agreement)."""
    figure = Figure(figsize=(3.1 * len(panels), 3.6), layout="constrained")
    for axes, (name, (predicted, actual, found)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        low = float(min(predicted.min(), actual.min()))
        high = float(max(predicted.max(), actual.max()))
        margin = 0.06 * (high - low)
        ends = [low - margin, high + margin]
        axes.plot(ends, ends, color=QUIET, linewidth=1, linestyle="--")
        axes.scatter(predicted, actual, color=POSITIVE, s=14, alpha=0.7, linewidths=0, zorder=3)
        axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel="predicted change of the loss (nats)")
        axes.set_title(f"{name}\nR = {found['pearson']:.3f}, slope {found['slope']:.2f}", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=5)
    figure.axes[0].set_ylabel("actual change (nats)")
    return figure


@styled
def costs(
    dampings: Sequence[float],
    by_damping: Mapping[str, Sequence[Numbers | None]],
    retraining: Mapping[str, Mapping[int, Numbers]],
    training: Mapping[str, Mapping[int, Numbers]],
    paper: float,
) -> Figure:
    """R and slope against damping, and R against the steps of retraining and of training."""
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    (damped, slopes), (further, before) = figure.subplots(2, 2)
    for axes, key in ((damped, "pearson"), (slopes, "slope")):
        for number, (name, found) in enumerate(by_damping.items()):
            points = [(d, each[key]) for d, each in zip(dampings, found, strict=True) if each is not None]
            _line(axes, number, name, *zip(*points, strict=True))
        axes.set_xscale("log")
        axes.set_xlabel("damping δ")
        axes.axvline(0.01, color=QUIET, linewidth=0.8, linestyle=":")
    damped.set_ylabel("Pearson R")
    slopes.set_ylabel("slope of actual on predicted")
    slopes.set_yscale("log")
    slopes.axhline(1, color=QUIET, linewidth=0.8)
    damped.legend(fontsize=8)
    further.set_xscale("log")
    further.axhline(paper, color=QUIET, linewidth=0.8, linestyle="--", label=f"paper: {paper:.2f}")
    for axes, series, label in (
        (further, retraining, "further steps of Adam without the image"),
        (before, training, "steps of training before the influence was taken"),
    ):
        for number, (name, found) in enumerate(series.items()):
            _line(axes, number, name, list(found), [each["pearson"] for each in found.values()])
        axes.set_xlabel(label)
        axes.set_ylabel("Pearson R")
        axes.legend(fontsize=8)
    return figure


def _line(axes: Axes, number: int, name: str, x: Any, y: Any) -> None:
    axes.plot(x, y, color=PALETTE[number], marker="os^D"[number], markersize=4, label=name)
