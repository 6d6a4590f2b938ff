"""Agreement of SOURCE, of its filter and of its damping with models of random halves, beside the automatic damping."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from benchmarks.fidelity import stored
from torch import nn

import upweight as uw
from experiments.expansion.studies import QUICK, Study, study
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight.errors import UpweightWarning
from upweight.inverse import EKFAC, Dual, TrainingLength

NAMES = ("digits",) if QUICK else ("digits", "mnist-mlp")
MOMENTUM = 0.9
INVERSES = {"dual": Dual, "EK-FAC": EKFAC}
WORK = [(name, inverse) for name in NAMES for inverse in INVERSES]


def checkpoints(one: Study) -> tuple[list[nn.Module], list[float], int]:
    """The model explained after each fifth of its training, mean rates, and steps of a fifth."""
    found = stored.read(stored.path(one.name))
    models = []
    for fifth in range(5):
        model = one.build()
        with torch.no_grad():
            for number, value in enumerate(model.parameters()):
                value.copy_(torch.from_numpy(found[f"checkpoint_{fifth}_param_{number}"]))
        models.append(model)
    steps = one.recipe.epochs * -(-one.n // one.recipe.batch) // 5
    return models, [float(rate) for rate in found["checkpoint_lr"]], steps


def one_inverse(number: int) -> dict[str, Any]:
    """LDS by rule of damping, one inverse on one task."""
    warnings.simplefilter("ignore", UpweightWarning)
    name, kind = WORK[number]
    one = study(name)
    objective, truth = one.objective(one.given), one.truth
    models, rates, steps = checkpoints(one)
    length = TrainingLength(sum(rates) / len(rates), 5 * steps, MOMENTUM)
    solver = INVERSES[kind]().fit(objective)
    made = {
        "automatic": uw.Influence(objective, solver),
        "training length": uw.Influence(objective, solver.with_damping(length)),
        "filter, one segment": uw.SOURCE(
            objective, [one.given], length.rate, length.steps, momentum=MOMENTUM, inverse=INVERSES[kind]()
        ),
        "SOURCE, five segments": uw.SOURCE(
            objective, models, rates, steps, momentum=MOMENTUM, inverse=INVERSES[kind]()
        ),
    }
    found: dict[str, Any] = {"study": name, "inverse": kind, "δ": {"automatic": solver.damping}}
    found["δ"]["training length"] = length.absolute
    for rule, method in made.items():
        metric = truth.metric(resamples=1)
        metric.update(method.attribute(one.queries), truth.outcomes)
        found[rule] = metric.compute().lds
    return found


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all inverses"):
        rows = over_seeds("expansion-lengths", one_inverse, range(len(WORK)), settings=WORK, jobs=1)
    rules = ["automatic", "training length", "filter, one segment", "SOURCE, five segments"]
    cells = []
    for row in rows:
        dampings = f"{row['δ']['automatic']:.3g} / {row['δ']['training length']:.3g}"
        cells.append([f"{row['study']}, {row['inverse']}", *(f"{row[rule]:.3f}" for rule in rules), dampings])
    save(
        Result(
            id="expansion_lengths",
            title="The training length as damping",
            paper="SOURCE: LDS .473 on GPT-2 and WikiText, EK-FAC .454 (as published, in another protocol)",
            ours="LDS, automatic damping and SOURCE: "
            + "; ".join(
                f"{row['study']}, {row['inverse']}: {row['automatic']:.3f} and {row['SOURCE, five segments']:.3f}"
                for row in rows
            ),
            why="Protocol: averaged seeds, halves." + table(["task, inverse", *rules, "δ automatic / length"], cells),
            numbers={"rows": rows},
            quick=QUICK,
        ),
        {},
        watch,
        "expansion",
    )


if __name__ == "__main__":
    run(main)
