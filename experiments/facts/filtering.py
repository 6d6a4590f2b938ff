"""Which training sentences are false? Average precision by likeness to questions known to be true, beside the loss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

import upweight as uw
from experiments.facts.methods import matrix
from experiments.facts.problem import IGNORED, PEOPLE, QUICK, SETTINGS, answered, train
from experiments.facts.rankings import LOSS_ALONG, OURS, WORDS, Along, by_rules, judged, said, tabled
from experiments.results import Result, Stopwatch, save
from experiments.resume import over_seeds
from experiments.running import run
from upweight import plots
from upweight.datasets import corrupted, synthetic_people

SEEDS = range(1 if QUICK else 3)
SHARE = 0.2
COVERED = (1.0, 0.5, 0.2)
"""Shares of the people whose facts the reference set holds."""


def one_seed(seed: int) -> dict[str, Any]:
    """Average precision of each ranking, the sentences most suspected of being false first."""
    warnings.simplefilter("ignore", uw.NotStationaryWarning)  # the model was trained by epochs, as models are
    people = synthetic_people(PEOPLE, seed=seed)
    texts, false = corrupted(people, SHARE, seed=seed)
    ids = people.vocabulary.encode(texts, people.length)
    sentences = {"input_ids": ids, "labels": torch.where(ids == 0, IGNORED, ids)}
    last = (ids != 0).sum(1, keepdim=True) - 1
    answers = {"input_ids": ids, "labels": torch.full_like(ids, IGNORED).scatter(1, last, ids.gather(1, last))}
    asked = people.asked()
    trained = train(people, sentences, seed)
    along = Along.of(trained, answers)
    scores = along.by_reference(asked)
    scores[WORDS] = matrix(uw.similarity.bm25(texts, [question.text for question in people.questions]))
    order = np.random.default_rng(seed).permutation(PEOPLE)
    whose = np.array([question.fact.person for question in people.questions])
    alone = along.by_itself(answers)
    alone["loss of the sentence"] = along.members[-1].objective.losses(sentences).double().numpy()
    return {
        "alone": judged(alone, false),
        "covered": {
            f"{share:.0%}": by_rules(
                {name: each[np.isin(whose, order[: round(share * PEOPLE)])] for name, each in scores.items()}, false, -1
            )
            for share in COVERED
        },
        "answered": answered(trained.model, asked),
        "chance": float(false.mean()),
    }


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all seeds"):
        runs = over_seeds("facts-filtering", one_seed, SEEDS, settings=[SETTINGS, SHARE, COVERED], jobs=1)
    columns = {
        f"{covered} of the people, {rule}": [run["covered"][covered][rule] | run["alone"] for run in runs]
        for rule in ("nearest", "mean")
        for covered in runs[0]["covered"]
    }
    whole = columns["100% of the people, nearest"]
    chance = float(np.mean([run["chance"] for run in runs]))
    order = sorted(whole[0], key=lambda name: -float(np.mean([run[name][0] for run in whole])))
    save(
        Result(
            id="facts_filtering",
            title="Filtering false sentences about synthetic people",
            paper="not of a paper: the generator is this project's own",
            ours="AUPRC with every fact in the reference set "
            + "; ".join(f"{name} {said([run[name] for run in whole])}" for name in (OURS, WORDS, LOSS_ALONG))
            + f"; at random {chance:.3f}",
            why=f"{SHARE:.0%} of the sentences have another person's value; {PEOPLE} people, {len(runs)} seeds; the "
            "model answers "
            + ", ".join(f"{run['answered']:.0%}" for run in runs)
            + " of the questions, which are true, in other words than any sentence, and the reference set. A sentence "
            "is suspected by its largest score for any question of the reference set (nearest), or by its mean score "
            "(mean), alike for every method; losses and self-influences need none. Gradients are of each sentence's "
            "last word, the value: with gradients of whole sentences and the mean, EK-FAC of 5 checkpoints had .334. "
            "The reference set holds the facts of all people, of half of them, or of a fifth. Cosines are in the "
            "metric of the inverse curvature. The rule was chosen by looks at seed 0. Means over seeds of the average "
            "precision and of the ends of its 95 % interval over sentences." + tabled(columns),
            numbers={"settings": SETTINGS, "share": SHARE, "chance": chance, "per_seed": runs},
            quick=QUICK,
            seconds=sum(run["cpu_seconds"] for run in runs),
            peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
        ),
        {
            "facts_filtering": plots.estimates(
                order,
                *(np.array([np.mean([run[name][part] for run in whole]) for name in order]) for part in range(3)),
                xlabel="AUPRC (1: all false sentences come first)",
                reference=chance,
                note=f"{SHARE:.0%} false, every fact in the reference set, {len(runs)} seeds · dashed: at random",
                title="Filtering false sentences",
            )
        },
        watch,
        folder="facts",
    )


if __name__ == "__main__":
    run(main)
