"""Means over models of further seeds, by where they are trained: how far a mean goes beyond one model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import nn

import upweight as uw
from experiments.expansion.studies import QUICK, Study, study
from experiments.results import Result, Stopwatch, legend_below, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight.errors import UpweightWarning

NAMES = ("digits",) if QUICK else ("digits", "mnist-mlp")
MODELS = 2 if QUICK else 8
SHOWN = [count for count in (1, 2, 3, 5, 8) if count <= MODELS]


def at_weight(weight: float) -> Callable[[Study, int], nn.Module]:
    """A training on all examples, each with that weight."""
    return lambda one, seed: one.train(torch.full((one.n,), weight), seed)


def on_a_half(one: Study, seed: int) -> nn.Module:
    """A training on a random half, which is none of those that are predicted."""
    chosen = torch.randperm(one.n, generator=torch.Generator().manual_seed(1000 + seed))[: one.n // 2]
    return one.on(chosen.sort().values, seed)


POINTS: dict[str, Callable[[Study, int], nn.Module]] = {
    "weight 1": at_weight(1.0),
    "weight ½": at_weight(0.5),
    "weight .3": at_weight(0.3),
    "a random half each": on_a_half,
}
WORK = [(name, point) for name in NAMES for point in POINTS]


def one_point(number: int) -> dict[str, Any]:
    """LDS of the mean over the first models, for every number of them, and seconds of processor for each model."""
    warnings.simplefilter("ignore", UpweightWarning)  # of models that are at no optimum, and are not meant to be
    name, point = WORK[number]
    one = study(name)
    truth, total, found = one.truth, torch.zeros(()), []
    training = scoring = 0.0
    for seed in range(1, MODELS + 1):  # seed 0 is the model explained
        start = time.process_time()
        model = POINTS[point](one, seed)
        trained = time.process_time()
        scores = uw.Influence(one.objective(model), uw.inverse.Dual()).attribute(one.queries).scores
        training, scoring = training + trained - start, scoring + time.process_time() - trained
        total = total + scores
        metric = truth.metric(resamples=1)
        metric.update(total, truth.outcomes)
        found.append(metric.compute().lds)
    return {
        "study": name,
        "point": point,
        "lds": found,
        "training_cpu_seconds": training / MODELS,
        "scoring_cpu_seconds": scoring / MODELS,
    }


def figure(rows: list[dict[str, Any]]) -> Figure:
    """LDS over the number of models, a line for each point."""
    found, axes = plt.subplots(1, len(NAMES), figsize=(4.6 * len(NAMES), 3.8), squeeze=False)
    for axis, name in zip(axes[0], NAMES, strict=True):
        for row in rows:
            if row["study"] == name:
                axis.plot(range(1, MODELS + 1), row["lds"], marker="o", ms=4, label=row["point"])
        axis.set(title=name, xlabel="models in the mean", xticks=range(1, MODELS + 1))
    axes[0, 0].set_ylabel("LDS")
    legend_below(found)
    return found


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all models"):
        rows = over_seeds("expansion-seeds", one_point, range(len(WORK)), settings=[WORK, MODELS], jobs=1)
    by = {(row["study"], row["point"]): row for row in rows}
    cells = [
        [
            f"{name}: {point}",
            *(f"{by[name, point]['lds'][count - 1]:.3f}" for count in SHOWN),
            *(f"{by[name, point][f'{kind}_cpu_seconds']:.1f}" for kind in ("training", "scoring")),
        ]
        for name, point in WORK
    ]
    best = {name: max(by[name, point]["lds"][-1] for point in POINTS) for name in NAMES}
    save(
        Result(
            id="expansion_seeds",
            title="Expansion points: means over seeds",
            paper="none: no paper and no peer has them",
            ours=f"LDS of the best mean over {MODELS} models: "
            + ", ".join(f"{name} {value:.3f}" for name, value in best.items()),
            why="The dual GGN of 2,500 rows at its automatic δ, on models of other seeds than the one explained; "
            "protocols as of [expansion points](#expansion_points). *A random half each*: trained on half of the "
            "examples, as the models that are predicted; its first and second derivatives are those of all examples. "
            f"LDS of the mean over {', '.join(map(str, SHOWN))} models; seconds of processor for one model:"
            + table(["", *(f"{count} models" if count > 1 else "1" for count in SHOWN), "training", "scoring"], cells),
            numbers={"rows": rows},
            quick=QUICK,
        ),
        {"expansion_seeds": figure(rows)},
        watch,
        "expansion",
    )


if __name__ == "__main__":
    run(main)
