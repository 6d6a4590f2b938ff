"""Which training sentences are false? Average precision by influence on questions known to be true, beside the loss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

import upweight as uw
from experiments.facts.methods import DAMPING, losses, matrix
from experiments.facts.problem import IGNORED, LOSS, PEOPLE, QUICK, SETTINGS, Trained, answered, train
from experiments.results import Result, Stopwatch, save, table
from experiments.resume import over_seeds
from upweight import plots
from upweight.datasets import corrupted, synthetic_people
from upweight.evaluation import AUPRC

SEEDS = range(1 if QUICK else 3)
SHARE = 0.2
OURS = "EK-FAC, 5 checkpoints"


def one_seed(seed: int) -> dict[str, Any]:
    """Average precision of each ranking, the sentences most suspected of being false first."""
    warnings.simplefilter("ignore", uw.NotStationaryWarning)  # the model was trained by epochs, as models are
    people = synthetic_people(PEOPLE, seed=seed)
    texts, false = corrupted(people, SHARE, seed=seed)
    ids = people.vocabulary.encode(texts, people.length)
    tokens = {"input_ids": ids, "labels": torch.where(ids == 0, IGNORED, ids)}
    asked = people.asked()
    trained = train(people, tokens, seed)
    suspicion = {
        "BM25, least like the questions": -matrix(
            uw.similarity.bm25(texts, [question.text for question in people.questions])
        ).max(0)
    }
    suspicion |= ranked(trained, tokens, asked)
    found = {}
    for name, values in suspicion.items():
        metric = AUPRC()
        metric.update(values, false)
        result = metric.compute()
        found[name] = [result.value, result.interval.low, result.interval.high]
    return {"scores": found, "answered": answered(trained.model, asked), "chance": float(false.mean())}


def ranked(trained: Trained, tokens: dict[str, torch.Tensor], asked: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Suspicion of each sentence, ``[train]``: harm to the questions' mean loss, or what needs no questions."""
    objective = uw.Objective(trained.model, LOSS, tokens)
    ensemble = uw.Ensemble(objective, trained.checkpoints, uw.inverse.EKFAC(damping=DAMPING))
    found = [(matrix(each.attribute(asked)).mean(0), each.self_influence()) for each in ensemble.influences()]
    own = [each.scores.double().numpy() for _, each in found]
    tracin = uw.TracIn(objective, trained.checkpoints, [max(rate, 1e-8) for rate in trained.rates])
    return {
        "loss": losses(trained, tokens),
        "gradient dot product": -matrix(uw.similarity.gradient_dot(objective, asked)).mean(0),
        "TracIn, 5 checkpoints": -matrix(tracin.attribute(asked)).mean(0),
        "EK-FAC": -found[-1][0],
        "EK-FAC, 5 checkpoints": -np.sum([each for each, _ in found], axis=0),
        "EK-FAC, relative, 5 checkpoints": -np.sum([each for each, _ in found], axis=0) / np.sqrt(np.sum(own, axis=0)),
        "self-influence by EK-FAC": own[-1],
    }


def main() -> None:
    watch = Stopwatch()
    with watch.stage("all seeds"):
        runs = over_seeds("facts-filtering", one_seed, SEEDS, settings=[SETTINGS, SHARE], jobs=2)
    means = {name: np.mean([run["scores"][name] for run in runs], axis=0) for name in runs[0]["scores"]}
    order = sorted(means, key=lambda name: -means[name][0])
    chance = float(np.mean([run["chance"] for run in runs]))
    said = {name: f"{mean:.3f} [{low:.3f}, {high:.3f}]" for name, (mean, low, high) in means.items()}
    words = "BM25, least like the questions"
    save(
        Result(
            id="facts_filtering",
            title="Filtering false sentences about synthetic people",
            paper="not of a paper: the generator is this project's own",
            ours=f"AUPRC {OURS} {said[OURS]}; loss {said['loss']}; BM25 {said[words]}; at random {chance:.3f}",
            why=f"{SHARE:.0%} of the sentences have another person's value; {PEOPLE} people, {len(runs)} seeds; the "
            "model answers "
            + ", ".join(f"{run['answered']:.0%}" for run in runs)
            + " of the questions, which are true and whose mean loss the influence is on. Means over seeds of the "
            "average precision and of the ends of its 95 % interval over sentences. Every fact is asked for, so "
            "that BM25 knows a true sentence by the question that has all its rare words."
            + table(
                ["", "AUPRC", *(f"seed {seed}" for seed in SEEDS)],
                [[name, said[name], *(f"{run['scores'][name][0]:.3f}" for run in runs)] for name in order],
            ),
            numbers={"settings": SETTINGS, "share": SHARE, "chance": chance, "per_seed": runs},
            quick=QUICK,
            seconds=sum(run["cpu_seconds"] for run in runs),
            peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
        ),
        {
            "facts_filtering": plots.estimates(
                order,
                *(np.array([means[name][part] for name in order]) for part in range(3)),
                xlabel="AUPRC (1: all false sentences come first)",
                reference=chance,
                note=f"{SHARE:.0%} false, {len(runs)} seeds · dashed: at random",
                title="Filtering false sentences",
            )
        },
        watch,
        folder="facts",
    )


if __name__ == "__main__":
    main()
