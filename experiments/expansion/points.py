"""Agreement with models of random halves, by where influence is linearised; all by the dual GGN of 2,500 rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import torch
from benchmarks.fidelity.models import loss_of_outputs
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor, nn

import upweight as uw
from experiments.expansion.studies import NAMES, QUICK, Study, study
from experiments.results import Result, Stopwatch, legend_below, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight.errors import UpweightWarning

TEMPERATURE = 1.4
MULTIPLES = (0.5, 1.0, 2.0)
"""Of λ + δ at the automatic δ."""
MOVED = "moved to weight ½, 5 iterations"
Made = tuple[uw.Objective, tuple[Tensor, Tensor]]


class Shifted(nn.Module):
    """A model with the outputs of another: the last columns of its flat input are what has to be added."""

    def __init__(self, model: nn.Module, shape: torch.Size, width: int):
        super().__init__()
        self.model, self.shape, self.width = model, shape, width

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.model(x[:, : -self.width].unflatten(1, self.shape)) + x[:, -self.width :]


def with_outputs_of(one: Study, jacobians: nn.Module, outputs: nn.Module) -> Made:
    """Jacobians of one model, residuals and curvature in the outputs of another."""
    x, y, query_x, query_y = one.examples
    with torch.no_grad():
        shift, query_shift = (outputs(each) - jacobians(each) for each in (x, query_x))
    data = torch.cat([x.flatten(1), shift], 1), y
    model = Shifted(jacobians, x.shape[1:], shift.shape[1])
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data, l2=one.recipe.l2)
    return objective, (torch.cat([query_x.flatten(1), query_shift], 1), query_y)


def trained(weight: float = 1.0, **changes: Any) -> Callable[[Study], Made]:
    """A model trained with every weight so; l2 of the training changed, that of the objective as it is."""

    def make(one: Study) -> Made:
        return one.objective(one.train(torch.full((one.n,), weight), **changes)), one.queries

    return make


def moved(weight: float, passes: int) -> Callable[[Study], Made]:
    """The model handed in, moved to a weight without a training."""

    def make(one: Study) -> Made:
        there = uw.expansion(weight=weight, passes=passes).one(one.objective(one.given))
        return one.objective(there.model), one.queries

    return make


def tempered(one: Study) -> Made:
    """The model handed in with its outputs divided."""
    return one.objective(one.given, TEMPERATURE), one.queries


def half_weight(one: Study) -> nn.Module:
    """The model trained with every weight ½."""
    return one.train(torch.full((one.n,), 0.5))


POINTS: dict[str, tuple[str, Callable[[Study], Made]]] = {
    "as handed in": ("handed in", lambda one: (one.objective(one.given), one.queries)),
    f"outputs tempered by {TEMPERATURE}": ("tempered", tempered),
    "weight ½": ("weight", trained(0.5)),
    "weight .3": ("weight", trained(0.3)),
    "half the steps": ("steps", trained(steps=0.5)),
    "after .4 of the epochs": ("checkpoint", trained(until=0.4)),
    MOVED: ("moved", moved(0.5, 5)),
    "moved to weight ½, 10 iterations": ("moved", moved(0.5, 10)),
    "outputs of weight ½, Jacobians as handed in": (
        "exchanged",
        lambda one: with_outputs_of(one, one.given, half_weight(one)),
    ),
    "Jacobians of weight ½, outputs as handed in": (
        "exchanged",
        lambda one: with_outputs_of(one, half_weight(one), one.given),
    ),
}
CHOSEN = list(POINTS)[:7] if QUICK else list(POINTS)
WORK = sorted(((name, point) for name in NAMES for point in CHOSEN), key=lambda one: one[0] == "mnist-mlp")


def one_point(number: int) -> dict[str, Any]:
    """LDS by automatic damping and by the best of three, with the mean training loss of the outputs there."""
    warnings.simplefilter("ignore", UpweightWarning)  # of models that are at no optimum, and are not meant to be
    name, point = WORK[number]
    one = study(name)
    objective, queries = POINTS[point][1](one)
    truth, solver = one.truth, uw.inverse.Dual().fit(objective)
    penalty, found = one.recipe.l2, {}
    for multiple in MULTIPLES:
        damping = max(multiple * (penalty + solver.damping) - penalty, 0.0)
        scores = uw.Influence(objective, solver.with_damping(damping)).attribute(queries).scores
        metric = truth.metric(resamples=1)
        metric.update(scores, truth.outcomes)
        found[multiple] = metric.compute().lds
    return {
        "study": name,
        "point": point,
        "automatic": found[1.0],
        "best": max(found.values()),
        "damping": solver.damping,
        "loss": float(objective.losses().mean()) if POINTS[point][0] != "tempered" else loss_of_tempered(one),
    }


def loss_of_tempered(one: Study) -> float:
    """Mean training loss of the divided outputs."""
    model = one.given
    with torch.no_grad():
        return float(loss_of_outputs(model(one.examples[0]) / TEMPERATURE, one.examples[1]).mean())


MARKS = {
    "handed in": "*",
    "tempered": "v",
    "weight": "o",
    "steps": "s",
    "checkpoint": "D",
    "moved": "P",
    "exchanged": "x",
}


def figure(rows: list[dict[str, Any]], halves: dict[str, float]) -> Figure:
    """LDS over the mean training loss where it was linearised; a kind of point a mark."""
    found, axes = plt.subplots(1, len(NAMES), figsize=(4.2 * len(NAMES), 3.9), squeeze=False)
    for axis, name in zip(axes[0], NAMES, strict=True):
        for kind, mark in MARKS.items():
            chosen = [row for row in rows if row["study"] == name and POINTS[row["point"]][0] == kind]
            axis.scatter(
                [row["loss"] for row in chosen],
                [row["automatic"] for row in chosen],
                marker=mark,
                s=70 if mark == "*" else 45,
                label=kind,
            )
        axis.axvline(halves[name], color="grey", lw=1, ls="--", label="models of halves")
        axis.set(title=name, xscale="log", xlabel="mean training loss where linearised [nats]")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("LDS, automatic damping (averaged seeds, halves)")
    legend_below(found)
    return found


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all points"):
        rows = over_seeds("expansion", one_point, range(len(WORK)), settings=[sorted(WORK), MULTIPLES], jobs=1)
    with watch.stage("models of halves"):
        halves = {name: study(name).mean_loss_of_halves for name in NAMES}
    truths = {name: study(name).truth for name in NAMES}
    by = {(row["study"], row["point"]): row for row in rows}
    cells = [
        [point, *(f"{by[name, point]['automatic']:.3f} / {by[name, point]['best']:.3f}" for name in NAMES)]
        for point in CHOSEN
    ]
    ours = "; ".join(
        f"{name}: {by[name, 'as handed in']['automatic']:.3f} as handed in, {by[name, 'weight ½']['automatic']:.3f} at "
        f"weight ½, {by[name, MOVED]['automatic']:.3f} moved without training"
        for name in NAMES
    )
    protocols = "; ".join(f"{name}: {len(truths[name].subsets)} subsets, {truths[name].protocol}" for name in NAMES)
    save(
        Result(
            id="expansion_points",
            title="Expansion points",
            paper="none: no paper and no peer has them",
            ours=f"LDS, {ours}",
            why=f"Protocols: {protocols}. LDS at the automatic δ / at the best of ½, 1 and 2 times λ + δ:"
            + table(["linearised at", *NAMES], cells)
            + "cancer and digits-cnn were looked at once, after everything was chosen. "
            + "Mean training loss of models of halves, over all examples: "
            + ", ".join(f"{name} {value:.3f}" for name, value in halves.items())
            + ".",
            numbers={"rows": rows, "halves": halves},
            quick=QUICK,
        ),
        {"expansion_points": figure(rows, halves)},
        watch,
        "expansion",
    )


if __name__ == "__main__":
    run(main)
