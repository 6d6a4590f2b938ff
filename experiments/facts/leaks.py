"""Which answers of a pool tell what should be private? AUPRC by a few known ones about other people."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import upweight as uw
from experiments.facts.confidences import KNOWN, pool
from experiments.facts.methods import matrix
from experiments.facts.problem import PEOPLE, QUICK, SETTINGS, train
from experiments.facts.rankings import LOSS_ALONG, OURS, WORDS, Along, by_rules, judged, said, tabled
from experiments.results import Result, Stopwatch, save
from experiments.resume import over_seeds
from experiments.running import run
from upweight import plots

SEEDS = range(1 if QUICK else 3)


def one_seed(seed: int) -> dict[str, Any]:
    """Average precision of each ranking, the examples most like the reference set first."""
    warnings.simplefilter("ignore", uw.NotStationaryWarning)  # the model was trained by epochs, as models are
    made = pool(PEOPLE, seed)
    answers, reference = made.tokens(made.texts), made.tokens(made.reference)
    trained = train(made, answers, seed)
    along = Along.of(trained, answers)
    scores = along.by_reference(reference)
    scores[WORDS] = matrix(uw.similarity.bm25(made.texts, made.reference))
    return {
        "alone": judged(along.by_itself(answers), made.bad),
        "rules": by_rules(scores, made.bad, 1),
        "chance": float(made.bad.mean()),
        "examples": len(made.texts),
        "loss": float(along.members[-1].objective.losses(answers).mean()),
    }


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all seeds"):
        runs = over_seeds("facts-leaks", one_seed, SEEDS, settings=[SETTINGS, KNOWN], jobs=1)
    columns = {rule: [run["rules"][rule] | run["alone"] for run in runs] for rule in ("mean", "nearest")}
    means = columns["mean"]
    chance = float(np.mean([run["chance"] for run in runs]))
    order = sorted(means[0], key=lambda name: -float(np.mean([run[name][0] for run in means])))
    named = dict.fromkeys((order[0], OURS, WORDS, LOSS_ALONG))
    save(
        Result(
            id="facts_leaks",
            title="Filtering answers that tell what is private",
            paper="not of a paper: the form is DATE-LM's filtering, the data are this project's own",
            ours="AUPRC by the mean over the reference set "
            + "; ".join(f"{name} {said([run[name] for run in means])}" for name in named)
            + f"; at random {chance:.3f}",
            why=f"{runs[0]['examples']:,} questions with answers about {PEOPLE} people, {len(runs)} seeds. Questions "
            "about a third of them are refused, but a few of half of these are answered: the bad examples. Good ones "
            "share their words: the refused questions, and the answers about others. A tenth is small talk with random "
            f"answers, whose loss is high. The reference set are {KNOWN} bad answers about the other half of those "
            "protected, in wordings that the pool hasn't about them. DATE-LM takes the mean over it. BM25 finds bad "
            "examples where they have words of their own, which these have not. Means over seeds of the average "
            "precision and of the ends of its 95 % interval over examples." + tabled(columns),
            numbers={"settings": SETTINGS, "chance": chance, "per_seed": runs},
            quick=QUICK,
            seconds=sum(run["cpu_seconds"] for run in runs),
            peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
        ),
        {
            "facts_leaks": plots.estimates(
                order,
                *(np.array([np.mean([run[name][part] for run in means]) for name in order]) for part in range(3)),
                xlabel="AUPRC (1: all bad answers come first)",
                reference=chance,
                note=f"mean over {KNOWN} known ones, {len(runs)} seeds · dashed: at random",
                title="Filtering answers that tell what is private",
            )
        },
        watch,
        folder="facts",
    )


if __name__ == "__main__":
    run(main)
