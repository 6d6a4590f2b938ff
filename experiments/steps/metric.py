"""Influence in Adam's metric, (H + δP)⁻¹ with P = √v̂ + ε, beside (H + δI)⁻¹, against retraining by AdamW."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import upweight as uw
from experiments.facts.model import Transformer
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight.curvature import GGN, Fisher
from upweight.evaluation import LDS
from upweight.inverse import CG, EKFAC, Identity, InMetric, Inverse, Solver, StepMetric
from upweight.retraining import random_halves

QUICK = bool(os.environ.get("QUICK"))
N, QUERIES, LENGTH, WIDTH = (80, 5, 16, 8) if QUICK else (400, 20, 32, 24)
HALVES, RETRAININGS, SEEDS = (4, 1, range(1)) if QUICK else (60, 2, range(1))
EPOCHS, BATCH, RATE, DECAY = (2 if QUICK else 10), 10, 0.01, 0.1
SHARES = (1e-4, 1e-2, 0.1, 1.0, 10.0)
"""δ over the mean eigenvalue of the matrix that it is added to."""
SOLVED = SHARES[1:4]
"""Those that conjugate gradients are run at."""
SETTINGS = [N, QUERIES, LENGTH, WIDTH, HALVES, RETRAININGS, EPOCHS, BATCH, RATE, DECAY, SHARES]
LOSS = uw.losses.CrossEntropy()


@dataclass
class Trained:
    """A model with its optimiser, and the sum of its learning rates."""

    model: Transformer
    optimizer: torch.optim.Optimizer
    rates: float


def sequences() -> tuple[Tensor, Tensor, int]:
    """Training sequences and queries of consecutive characters, queries evenly among them; and how many there are."""
    plays = uw.datasets.load("shakespeare")
    number = {character: k for k, character in enumerate(plays.characters)}
    count = N + QUERIES
    found = torch.tensor([number[each] for each in plays.text[: count * (LENGTH + 1)]]).reshape(count, LENGTH + 1)
    asked = torch.arange(count) % (count // QUERIES) == count // QUERIES // 2
    return found[~asked], found[asked], len(number)


def train(chosen: Tensor, seed: int, characters: int) -> Trained:
    """AdamW with one cycle of the rate, on the mean of the sequences' losses."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(characters, LENGTH, WIDTH, heads=2, layers=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    steps, rates = EPOCHS * -(-len(chosen) // BATCH), 0.0
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(chosen), generator=generator).split(BATCH):
            optimizer.zero_grad()
            losses(model, chosen[rows]).mean().backward()
            rates += optimizer.param_groups[0]["lr"]
            optimizer.step()
            schedule.step()
    return Trained(model.eval(), optimizer, rates)


def losses(model: Transformer, rows: Tensor) -> Tensor:
    """Of each sequence, summed over its characters."""
    return LOSS(model, (rows[:, :-1], rows[:, 1:]))


def solvers(objective: uw.Objective, trained: Trained) -> list[tuple[str, str, Inverse | Solver]]:
    """Method, damping in words, and the inverse; each once as it is and once in the metric."""
    metric = uw.step_metric(trained.optimizer, trained.model)
    found: list[tuple[str, str, Inverse | Solver]] = [
        ("gradient dot", "", Identity()),
        ("gradient dot, in Adam's metric", "", StepMetric(metric)),
    ]
    inner = EKFAC(Fisher(), damping=1.0, penalized=False)
    for words, kind in (("", inner), (", in Adam's metric", InMetric(inner, metric))):
        solver: Any = kind.fit(objective)
        operator = solver.operator
        mean = sum(float(each.sum()) for each in operator.values) / objective.p
        found += [(f"EK-FAC{words}", f"{share:g}", solver.with_damping(share * mean)) for share in SHARES]
        found.append((f"EK-FAC{words}", "1/Ση", solver.with_damping(1 / trained.rates)))
        for share in SOLVED:
            exact = CG(GGN(), damping=share * mean, tolerance=1e-3, max_iterations=30)
            found.append((f"GGN by CG{words}", f"{share:g}", InMetric(exact, metric) if words else exact))
    return found


def one_seed(seed: int) -> dict[str, Any]:
    """LDS of every method and damping, for one model and its own halves."""
    warnings.simplefilter("ignore", uw.UpweightWarning)  # trained by epochs, and CG is cut off
    train_rows, query_rows, characters = sequences()
    subsets = random_halves(N, HALVES, seed)
    outcomes = torch.zeros(HALVES, RETRAININGS, QUERIES)
    for k, chosen in enumerate(subsets):
        for again in range(RETRAININGS):
            model = train(train_rows[chosen], 1000 * (seed + 1) + again, characters).model
            with torch.no_grad():
                outcomes[k, again] = losses(model, query_rows)
    trained = train(train_rows, seed, characters)
    objective = uw.Objective(trained.model, LOSS, (train_rows[:, :-1], train_rows[:, 1:]))
    queries, found, ceiling, off = (query_rows[:, :-1], query_rows[:, 1:]), {}, float("nan"), 0.0
    for method, damping, inverse in solvers(objective, trained):
        judge = LDS(list(subsets))
        judge.update(uw.Influence(objective, inverse).attribute(queries), outcomes)
        result = judge.compute()
        ceiling = result.ceiling
        off = getattr(getattr(inverse, "scaling", None), "error", off)
        found[f"{method}|{damping}"] = [result.lds, result.interval.low, result.interval.high]
    with torch.no_grad():
        nats = float(losses(trained.model, train_rows).mean()) / LENGTH
    return {"lds": found, "ceiling": ceiling, "nats": nats, "p": objective.p, "off": off, "rates": trained.rates}


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all seeds"):
        runs = over_seeds("steps-metric", one_seed, SEEDS, settings=SETTINGS, jobs=1)
    mean = {key: float(np.mean([run["lds"][key][0] for run in runs])) for key in runs[0]["lds"]}
    dampings = [f"{share:g}" for share in SHARES] + ["1/Ση"]
    methods = list(dict.fromkeys(key.split("|")[0] for key in mean))
    rows = [
        [method, *(f"{mean[f'{method}|{each}']:.3f}" if f"{method}|{each}" in mean else "" for each in ["", *dampings])]
        for method in methods
    ]
    best = {method: max(value for key, value in mean.items() if key.split("|")[0] == method) for method in methods}
    widths = [(run["lds"][key][2] - run["lds"][key][1]) / 2 for run in runs for key in run["lds"]]
    save(
        Result(
            id="steps_metric",
            title="Influence in Adam's metric",
            paper="SOURCE (Bae et al. 2024, appendix C) has the metric; no figure of it alone",
            ours="LDS at the best δ: " + ", ".join(f"{method} {value:.3f}" for method, value in best.items()),
            why=f"A transformer of one layer, {runs[0]['p']:,} parameters, on {N} sequences of {LENGTH} characters of "
            f"Shakespeare, {EPOCHS} epochs of AdamW (" + ", ".join(f"{run['nats']:.2f}" for run in runs) + " nats a "
            f"character); {HALVES} random halves, {RETRAININGS} trainings on each, {QUERIES} queries; models with "
            f"halves of their own: {len(runs)}. δ is in shares of the mean eigenvalue of the "
            f"matrix, in its own coordinates; 1/Ση, one over the sum of the rates ({runs[0]['rates']:.2f}), is the "
            "training's own damping. Without the penalty. In the metric EK-FAC's P is an outer product by layer, off "
            "by "
            + ", ".join(f"{run['off']:.0%}" for run in runs)
            + ". Ceiling "
            + ", ".join(f"{run['ceiling']:.2f}" for run in runs)
            + "."
            + table(["LDS", "no δ", *dampings], rows)
            + f"Intervals of 95 % over queries and halves are ± {np.mean(widths):.2f} of a figure.",
            numbers={
                "per_seed": [run["lds"] for run in runs],
                "mean": mean,
                "ceiling": [run["ceiling"] for run in runs],
            },
            quick=QUICK,
            seconds=sum(run["cpu_seconds"] for run in runs),
            peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
        ),
        {},
        watch,
        folder="steps",
    )


if __name__ == "__main__":
    run(main)
