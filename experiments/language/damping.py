"""How EK-FAC + CG hangs on its damping: LDS of one model on passages that are kept back from the comparison."""

from __future__ import annotations

import warnings
from typing import Any

import torch

import upweight as uw
from experiments.language.agreement import SEEDS, numbers
from experiments.language.methods import CG, EKFAC, ITERATIONS, objective_of, solver
from experiments.language.passages import QUICK, passages
from experiments.language.training import SETTINGS, beginning, train
from experiments.language.truth import SUBSETS, batch, halves, outcomes
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight import plots
from upweight.evaluation import LDS

MULTIPLES = (1, 30, 1000, 10000)
"""Of EK-FAC's automatic damping."""
EVERY = 2
"""One of so many passages that are kept back."""


def one_multiple(multiple: int) -> dict[str, Any]:
    """LDS of model 0's scores at a damping, by EK-FAC alone and with conjugate gradients."""
    warnings.simplefilter("ignore", uw.UpweightWarning)  # trained by epochs, CG cut off on purpose
    given = passages()
    start = beginning(given)
    trained = train(start, given.train, torch.arange(len(given.train)), seed=0)
    objective, asked = objective_of(trained, given), given.kept_back[::EVERY]
    measured = outcomes(objective, asked, given, start, 0)
    influence = uw.Influence(objective, uw.inverse.EKFAC())
    found = {
        EKFAC: influence.with_inverse(influence.solver.with_damping(multiple * influence.solver.damping)),
        CG: influence.with_inverse(solver(influence.solver, multiple)),
    }
    judged = {}
    for name, each in found.items():
        metric = LDS(halves(objective.n, 0))
        metric.update(each.attribute(batch(asked)), measured)
        judged[name] = numbers(metric.compute())
        print(f"  {name} at {multiple} ×: LDS {judged[name]['lds']:.3f}", flush=True)
    return {"scores": judged, "queries": len(asked)}


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all dampings"):
        runs = over_seeds("language-damping", one_multiple, MULTIPLES, settings=[SETTINGS, ITERATIONS, SUBSETS], jobs=1)
    save(result(runs), {"language_damping": figure(runs)}, watch, folder="language")


def of(runs: list[dict[str, Any]], name: str, part: str) -> list[float]:
    """A figure of one method at every damping."""
    return [run["scores"][name][part] for run in runs]


def figure(runs: list[dict[str, Any]]) -> Any:
    """LDS over damping."""
    names = (EKFAC, CG)
    return plots.curves_with_bands(
        MULTIPLES,
        {name: of(runs, name, "lds") for name in names},
        {name: (of(runs, name, "low"), of(runs, name, "high")) for name in names},
        log_x=True,
        xlabel="Damping, × EK-FAC's automatic one",
        ylabel="LDS (rank correlation with retraining)",
        note=f"{runs[0]['queries']} passages kept back · {SUBSETS} halves × {SEEDS} seeds",
        title=f"{ITERATIONS} iterations of CG, by damping",
    )


def result(runs: list[dict[str, Any]]) -> Result:
    """The best damping of each, and all."""
    found = {name: of(runs, name, "lds") for name in (EKFAC, CG)}
    best = {name: max(range(len(MULTIPLES)), key=values.__getitem__) for name, values in found.items()}
    return Result(
        id="language_damping",
        title="A GPT of Shakespeare's plays: damping of EK-FAC + CG",
        paper="not of a paper: text, model and protocol are this project's own",
        ours="best LDS on passages kept back: "
        + ", ".join(f"{name} {found[name][at]:.3f} at {MULTIPLES[at]:,} ×" for name, at in best.items())
        + " EK-FAC's automatic damping",
        why=f"Model 0 of the comparison and its retrainings, {runs[0]['queries']} passages kept back from it, "
        f"{ITERATIONS} iterations, EK-FAC as preconditioner at the same damping. So few passages are a rough guide: "
        "what is ahead here need not be in the comparison."
        + table(
            ["× automatic damping", *found],
            [
                [f"{multiple:,}", *(f"{values[place]:.3f}" for values in found.values())]
                for place, multiple in enumerate(MULTIPLES)
            ],
        ),
        numbers={"settings": SETTINGS, "multiples": MULTIPLES, "runs": runs},
        quick=QUICK,
        seconds=sum(run["cpu_seconds"] for run in runs),
        peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
    )


if __name__ == "__main__":
    run(main)
