"""Which training sentences entail the answer? MRR and Recall@10 of a transformer's scores beside BM25's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import upweight as uw
from experiments.facts.methods import scores
from experiments.facts.problem import EPOCHS, PEOPLE, QUESTIONS, QUICK, SETTINGS, answered, train
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run
from upweight import plots
from upweight.datasets import synthetic_people
from upweight.evaluation import MRR, Bootstrap, Estimate, RecallAtK

SEEDS = range(1 if QUICK else 3)
METRICS: dict[str, Any] = {"MRR": MRR, "Recall@10": lambda: RecallAtK(10)}


def judged(scores: Any, entailed: Any) -> dict[str, list[float]]:
    """Each question's figures."""
    found = {}
    for title, kind in METRICS.items():
        metric = kind()
        metric.update(scores, entailed)
        found[title] = metric.compute().per_query.tolist()
    return found


def chance(entailed: np.ndarray) -> dict[str, float]:
    """What equal scores have."""
    equal = judged(np.zeros(entailed.shape), entailed)
    return {title: float(np.mean(values)) for title, values in equal.items()}


def one_seed(seed: int) -> dict[str, Any]:
    """Each question's reciprocal rank and recall by each method; other people and another model for each seed."""
    warnings.simplefilter("ignore", uw.NotStationaryWarning)  # the model was trained by epochs, as models are
    people = synthetic_people(PEOPLE, questions=QUESTIONS, seed=seed)
    tokens, asked, entailed = people.tokens(), people.asked(), people.entailed
    found: dict[str, Any] = {}

    for name, texts in (
        ("BM25 of the question", [question.prompt for question in people.questions]),
        ("BM25 of question and answer", [question.text for question in people.questions]),
    ):
        found[name] = judged(uw.similarity.bm25(people.texts, texts), entailed)
    trained = train(people, tokens, seed)
    for name, values in scores(trained, tokens, asked):
        found[name] = judged(values, entailed)
    return {
        "scores": found,
        "chance": chance(entailed),
        "answered": answered(trained.model, asked),
        "sentences": len(people.texts),
        "entailing": float(entailed.sum(1).mean()),
    }


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all seeds"):
        runs = over_seeds("facts-tracing", one_seed, SEEDS, settings=[SETTINGS, QUESTIONS], jobs=2)
    estimates = {
        name: {title: estimate([run["scores"][name][title] for run in runs]) for title in METRICS}
        for name in runs[0]["scores"]
    }
    random = {title: float(np.mean([run["chance"][title] for run in runs])) for title in METRICS}
    ranked = sorted(estimates, key=lambda name: -float(estimates[name]["MRR"]))
    best, words = ranked[0], "BM25 of question and answer"
    save(
        Result(
            id="facts_tracing",
            title="Tracing facts: sentences about synthetic people",
            paper="not of a paper: the generator is this project's own",
            ours=f"{best}: MRR {estimates[best]['MRR']}, Recall@10 {estimates[best]['Recall@10']}; {words}: MRR "
            f"{estimates[words]['MRR']}, Recall@10 {estimates[words]['Recall@10']}",
            why=f"{PEOPLE} people, {runs[0]['sentences']:,} sentences, {len(runs)} seeds (other people and another "
            f"model each) of {QUESTIONS} questions; a transformer of two layers, {EPOCHS} epochs, answers "
            + ", ".join(f"{run['answered']:.0%}" for run in runs)
            + f" of them; {np.mean([run['entailing'] for run in runs]):.1f} sentences entail an answer. Intervals of "
            "95 % are over questions. EK-FAC's damping, .01 of the mean eigenvalue, and the training's recipe were "
            "chosen by looks at seed 0. BM25 is given the answer; of a crossed sentence it finds every rare word."
            + table(
                ["", *METRICS],
                [
                    *([name, *(str(estimates[name][title]) for title in METRICS)] for name in ranked),
                    ["at random", *(f"{random[title]:.4f}" for title in METRICS)],
                ],
            ),
            numbers={
                "settings": SETTINGS,
                "chance": random,
                "answered": [run["answered"] for run in runs],
                "per_seed": {
                    name: {title: [float(np.mean(run["scores"][name][title])) for run in runs] for title in METRICS}
                    for name in ranked
                },
                "means": {name: {title: str(estimates[name][title]) for title in METRICS} for name in ranked},
            },
            quick=QUICK,
            seconds=sum(run["cpu_seconds"] for run in runs),
            peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
        ),
        {
            f"facts_{name}": plots.estimates(
                ranked,
                [float(estimates[each][title]) for each in ranked],
                [estimates[each][title].interval.low for each in ranked],
                [estimates[each][title].interval.high for each in ranked],
                xlabel=f"{title} (1: the entailing sentences come first)",
                reference=random[title],
                note=f"{len(runs) * QUESTIONS} questions, {len(runs)} seeds · dashed: at random",
                title=f"Tracing facts, {title}",
            )
            for name, title in (("mrr", "MRR"), ("recall", "Recall@10"))
        },
        watch,
        folder="facts",
    )


def estimate(values: list[list[float]]) -> Estimate:
    """The mean over all questions of all seeds, with its interval."""
    every = np.concatenate(values)
    return Estimate(float(every.mean()), Bootstrap().of_mean(every))


if __name__ == "__main__":
    run(main)
