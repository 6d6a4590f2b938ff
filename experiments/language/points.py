"""Where the GPT is linearised and in which metric: EK-FAC at checkpoints, tempered, in Adam's metric, over seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import upweight as uw
from experiments.language.agreement import SEEDS, difference, mean, numbers, ordered, told
from experiments.language.methods import EKFAC, objective_of
from experiments.language.passages import QUICK, Passages, passages
from experiments.language.training import SETTINGS, State, Trained, beginning, train
from experiments.language.truth import MODELS, SUBSETS, batch, halves, outcomes
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight.evaluation import LDS

TEMPERATURES = (1.5, 2.0)
OTHERS = 2 if QUICK else 4
"""Further models on all passages, of seeds that neither a model nor its retrainings have."""

Ways = Iterator[tuple[str, Callable[[], uw.Influence]]]


def ways(objective: uw.Objective, trained: Trained) -> Ways:
    """Each way's name, and how it is made: all by EK-FAC at its own automatic damping unless the name says another."""
    yield EKFAC, lambda: uw.Influence(objective, uw.inverse.EKFAC())
    for epoch, state in enumerate(trained.checkpoints[:-1], start=1):
        yield (
            f"{EKFAC}, epoch {epoch}",
            lambda state=state: uw.Influence(elsewhere(objective, state), uw.inverse.EKFAC()),
        )
    for temperature in TEMPERATURES:
        loss = replace(objective.loss, temperature=temperature)
        yield (
            f"{EKFAC}, outputs divided by {temperature:g}",
            lambda loss=loss: uw.Influence(objective.replace(loss=loss), uw.inverse.EKFAC()),
        )
    metric = uw.step_metric(trained.optimizer, trained.model)
    yield (
        f"{EKFAC}, Adam's metric",
        lambda: uw.Influence(objective, uw.inverse.InMetric(uw.inverse.EKFAC(), metric)),
    )
    length = sum(trained.rates) * -(-objective.n // 8)
    yield (
        f"{EKFAC}, Adam's metric, δ of the training's length",
        lambda: uw.Influence(objective, uw.inverse.InMetric(uw.inverse.EKFAC(damping=1 / length), metric)),
    )


def elsewhere(objective: uw.Objective, state: State) -> uw.Objective:
    """The objective at a checkpoint."""
    model = deepcopy(objective.model)
    model.load_state_dict(state)
    return objective.replace(model=model)


def scores(
    objective: uw.Objective, trained: Trained, given: Passages, start: State, seed: int
) -> dict[str, torch.Tensor]:
    """``[queries, train]`` by each way, and by means over checkpoints and seeds."""
    asked = batch(given.queries)
    found = {name: made().attribute(asked).scores for name, made in ways(objective, trained)}
    ends = [found[name] for name in found if name == EKFAC or name.startswith(f"{EKFAC}, epoch")]
    found[f"{EKFAC}, mean of {len(ends)} epochs"] = torch.stack(ends).mean(0)
    every = [found[EKFAC]]
    for other in range(100 * (seed + 1), 100 * (seed + 1) + OTHERS):
        again = objective_of(train(start, given.train, torch.arange(len(given.train)), other), given)
        every.append(uw.Influence(again, uw.inverse.EKFAC()).attribute(asked).scores)
    found[f"{EKFAC}, mean of {len(every)} seeds"] = torch.stack(every).mean(0)
    return found


def one_model(seed: int) -> dict[str, Any]:
    """Agreement of every way's scores of one model with that model's own retrainings."""
    warnings.simplefilter("ignore", uw.UpweightWarning)  # trained by epochs; the page says so
    given = passages()
    start = beginning(given)
    trained = train(start, given.train, torch.arange(len(given.train)), seed)
    objective = objective_of(trained, given)
    measured = outcomes(objective, given.queries, given, start, seed)
    judged = {}
    for name, each in scores(objective, trained, given, start, seed).items():
        metric = LDS(halves(len(given.train), seed))
        metric.update(each, measured)
        judged[name] = numbers(metric.compute())
        print(f"  model {seed}, {name}: LDS {judged[name]['lds']:.3f}", flush=True)
    return {"scores": judged}


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all models"):
        runs = over_seeds(
            "language-points", one_model, MODELS, settings=[SETTINGS, SUBSETS, TEMPERATURES, OTHERS], jobs=1
        )
    save(result(runs), {}, watch, folder="language")


def result(runs: list[dict[str, Any]]) -> Result:
    """The table and what it says."""
    names = ordered(runs)
    rows = [
        [
            name,
            f"{mean(runs, name, 'lds'):.3f} [{mean(runs, name, 'low'):.3f}, {mean(runs, name, 'high'):.3f}]",
            *(f"{run['scores'][name]['lds']:.3f}" for run in runs),
            "" if name == EKFAC else difference(runs, name, EKFAC),
        ]
        for name in names
    ]
    ceilings = told([run["scores"][EKFAC]["ceiling"] for run in runs])
    return Result(
        id="language_points",
        title="A GPT of Shakespeare's plays: where it is linearised, and in which metric",
        paper="not of a paper",
        ours=f"LDS {names[0]} {mean(runs, names[0], 'lds'):.3f}, {EKFAC} {mean(runs, EKFAC, 'lds'):.3f}",
        why=f"Models, passages and {SUBSETS} halves × {SEEDS} seeds of [agreement](#language_agreement). Each way is "
        "EK-FAC with its own automatic damping, unless the name says another: at the end of each epoch; with outputs "
        "divided by a temperature; in the metric of Adam's steps (`inverse.InMetric`), also with the damping of its "
        f"training's length; and means of scores. {len(runs)} models; a perfect predictor reaches {ceilings}. "
        "Differences are paired by model and query (95 % intervals over both)."
        + table(["", "LDS", *(f"model {seed}" for seed in MODELS), f"beyond {EKFAC}"], rows),
        numbers={"settings": SETTINGS, "per_model": runs, "best": float(np.max([mean(runs, n, "lds") for n in names]))},
        quick=QUICK,
        seconds=sum(run["cpu_seconds"] for run in runs),
        peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
    )


if __name__ == "__main__":
    run(main)
