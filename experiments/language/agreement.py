"""Do the scores of a GPT's training passages foretell what it says without them? LDS, and rise of the queries' loss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

import upweight as uw
from experiments.language.methods import CG, EKFAC, ITERATIONS, MULTIPLE, PEER, SECONDS, objective_of, scores
from experiments.language.passages import LEARNT, LENGTH, PASSAGES, QUICK, Passages, passages
from experiments.language.training import RECIPE, SETTINGS, SHAPE, State, beginning, train
from experiments.language.truth import (
    MODELS,
    SUBSETS,
    batch,
    halves,
    outcomes,
    training,
)
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight import plots
from upweight.evaluation import LDS, Bootstrap, LDSResult, query_loss_rise

REMOVED = ("BM25", EKFAC, CG, PEER)
"""Whose top passages are left out; each costs a training per query."""
ASKED = 1 if QUICK else 4
"""Queries whose top passages are left out, one of each play."""
SHARE, CONTROLS = 0.01, 2 if QUICK else 3
SEEDS = 2
"""Retrainings on each half."""


def one_model(seed: int) -> dict[str, Any]:
    """Agreement of every method's scores of one model with that model's own retrainings."""
    warnings.simplefilter("ignore", uw.UpweightWarning)  # trained by epochs, CG cut off on purpose; the page says so
    given = passages()
    start = beginning(given)
    trained = train(start, given.train, torch.arange(len(given.train)), seed)
    objective = objective_of(trained, given)
    measured = outcomes(objective, given.queries, given, start, seed)
    found, judged = scores(objective, trained, given, seed), {}
    for name, attribution in found.items():
        metric = LDS(halves(len(given.train), seed))
        metric.update(attribution, measured)
        judged[name] = numbers(metric.compute()) | {"seconds": attribution.facts[SECONDS]}
        print(f"  model {seed}, {name}: LDS {judged[name]['lds']:.3f}", flush=True)
    return {
        "scores": judged,
        "loss": [float(objective.losses(data).mean()) / (LENGTH - 1) for data in (None, batch(given.queries))],
        "damping": found[CG].damping,
        "residual": float(found[CG].report.residuals.mean()),
        "rise": rise(objective, found, given, start, seed),
    }


def numbers(result: LDSResult) -> dict[str, Any]:
    """What is kept of a method."""
    return {
        "lds": result.lds,
        "low": result.interval.low,
        "high": result.interval.high,
        "per_query": result.per_query.tolist(),
        "ceiling": result.ceiling,
        "seed_agreement": result.seed_agreement,
    }


def rise(
    objective: uw.Objective, found: dict[str, uw.Attribution], given: Passages, start: State, seed: int
) -> dict[str, list[float]]:
    """By how much each query's loss rises without its top passages, beyond random ones, in nats."""
    rows = torch.arange(ASKED) * len(given.queries) // ASKED
    result = query_loss_rise(
        uw.Influence(objective, uw.inverse.Identity()),
        batch(given.queries[rows]),
        training(start, given, (seed,)),
        attributions={name: of_rows(found[name], rows) for name in REMOVED if name in found},
        share=SHARE,
        controls=CONTROLS,
        seed=seed,
    )
    return {name: result.rises(name)[0].tolist() for name in result.change}


def of_rows(attribution: uw.Attribution, rows: torch.Tensor) -> uw.Attribution:
    """The scores of some queries."""
    return uw.Attribution(
        attribution.scores[rows], attribution.quantity, attribution.ids, attribution.query_ids[rows.numpy()]
    )


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all models"):
        runs = over_seeds("language", one_model, MODELS, settings=[SETTINGS, SUBSETS, ASKED, CONTROLS], jobs=1)
    save(result(runs), {"language_lds": figure(runs)}, watch, folder="language")


def mean(runs: list[dict[str, Any]], name: str, part: str) -> float:
    """Of a figure over the models."""
    return float(np.mean([run["scores"][name][part] for run in runs]))


def difference(runs: list[dict[str, Any]], first: str, second: str) -> str:
    """Of two methods' LDS, paired by model and query."""
    pairs = [[run["scores"][name]["per_query"] for run in runs] for name in (first, second)]
    return str(Bootstrap().of_table(np.subtract(*pairs)))


def risen(runs: list[dict[str, Any]], name: str) -> str:
    """Mean rise of the queries' loss over models and queries, in nats, with an interval."""
    if name not in runs[0]["rise"]:
        return "–"
    found = Bootstrap().of_table(np.array([run["rise"][name] for run in runs]))
    return f"{found.value:+.2f} [{found.interval.low:+.2f}, {found.interval.high:+.2f}]"


def ordered(runs: list[dict[str, Any]]) -> list[str]:
    """Methods, the best first."""
    return sorted(runs[0]["scores"], key=lambda name: -mean(runs, name, "lds"))


def figure(runs: list[dict[str, Any]]) -> Any:
    """LDS of every method with its interval."""
    names = ordered(runs)
    return plots.estimates(
        [name.replace("heuristic damping", "heuristic δ") for name in names],
        *(np.array([mean(runs, name, part) for name in names]) for part in ("lds", "low", "high")),
        xlabel="LDS (rank correlation with retraining on random halves)",
        reference=mean(runs, names[0], "ceiling"),
        note=f"{len(runs)} models, {SUBSETS} halves × 2 seeds each · dashed: what a perfect predictor reaches",
        title="A GPT of Shakespeare's plays",
    )


def result(runs: list[dict[str, Any]]) -> Result:
    """The table and what it says."""
    names = ordered(runs)
    peers = [name for name in names if name.startswith(PEER)]
    rows = [
        [
            name,
            f"{mean(runs, name, 'lds'):.3f} [{mean(runs, name, 'low'):.3f}, {mean(runs, name, 'high'):.3f}]",
            *(f"{run['scores'][name]['lds']:.3f}" for run in runs),
            risen(runs, name),
        ]
        for name in names
    ]
    others = [name for name in (EKFAC, *peers) if name != CG]
    differences = {f"{CG} − {other}": difference(runs, CG, other) for other in others}
    losses = np.mean([run["loss"] for run in runs], axis=0)
    agreements, ceilings = ([run["scores"][CG][part] for run in runs] for part in ("seed_agreement", "ceiling"))
    return Result(
        id="language_agreement",
        title="A GPT of Shakespeare's plays: agreement with retraining",
        paper="not of a paper: text, model and protocol are this project's own",
        ours=f"LDS {CG} {mean(runs, CG, 'lds'):.3f}, {EKFAC} {mean(runs, EKFAC, 'lds'):.3f}"
        + "".join(f", {name} {mean(runs, name, 'lds'):.3f}" for name in peers),
        why=f"A GPT of {SHAPE['layers']} blocks, {SHAPE['width']} wide, trained on the characters of 34 plays, then "
        f"for {RECIPE['epochs']} epochs on {PASSAGES} passages of {LENGTH} characters of the opening of each of "
        f"{', '.join(LEARNT)}: {losses[0]:.2f} nats a character there, {losses[1]:.2f} on the queries, which stand "
        f"between these passages. {len(runs)} models, each held against {SUBSETS} random halves × {SEEDS} seeds of "
        f"its own. The seeds agree to {told(agreements)}, so that a perfect predictor reaches {told(ceilings)}. LDS "
        "are means over models, of the ends of 95 % intervals too (over queries and halves). Rise: of a query's loss "
        f"after retraining without its top {SHARE:.0%}, beyond the mean of {CONTROLS} random removals, over {ASKED} "
        "queries and all models; a dash: not tried."
        + table(["", "LDS", *(f"model {seed}" for seed in MODELS), "rise, nats"], rows)
        + "Differences of LDS, paired by model and query (95 % intervals over both): "
        + "; ".join(f"{name} {said}" for name, said in differences.items())
        + f". {CG} took {mean(runs, CG, 'seconds'):.0f} processor seconds beside EK-FAC's fit, {EKFAC} "
        f"{mean(runs, EKFAC, 'seconds'):.0f}. It makes {ITERATIONS} iterations at {MULTIPLE:g} times EK-FAC's "
        f"automatic damping, which leaves residuals of {told([run['residual'] for run in runs])}: both chosen by looks "
        "at model 0 and four passages that are not among the queries ([by damping](#language_damping)); at EK-FAC's "
        "own three iterations are worse than none. One query's passages by word: "
        "[a page](language/results/language_example.html).",
        numbers={"settings": SETTINGS, "differences": differences, "per_model": runs},
        quick=QUICK,
        seconds=sum(run["cpu_seconds"] for run in runs),
        peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
    )


def told(values: list[float]) -> str:
    """Of each model."""
    return " and ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    run(main)
