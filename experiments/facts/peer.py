"""kronfluence's EK-FAC on the questions of `experiments.facts.tracing`, in its own environment; the same models."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.fidelity import environments
from torch import Tensor

from experiments.facts.problem import EPOCHS, PEOPLE, QUESTIONS, QUICK, SETTINGS, train
from experiments.facts.tracing import METRICS, estimate, judged
from experiments.results import Result, Stopwatch, save, table
from experiments.running import run
from upweight.datasets import synthetic_people

SEEDS = range(1)
ROOT = Path(__file__).parent.parent.parent


def one_seed(seed: int, python: Path) -> dict[str, dict[str, list[float]]]:
    """Each question's figures by kronfluence's scores, of the last checkpoint and of the mean over all."""
    people = synthetic_people(PEOPLE, questions=QUESTIONS, seed=seed)
    tokens, asked = people.tokens(), people.asked()
    trained = train(people, tokens, seed)
    made = kronfluence(
        python,
        {
            "shape": {"vocabulary": len(people.vocabulary), "length": people.length},
            "train": (tokens["input_ids"], tokens["labels"]),
            "queries": (asked["input_ids"], asked["labels"]),
            "checkpoints": trained.checkpoints,
        },
    )
    found: dict[str, dict[str, list[float]]] = {}
    for damping, (pairs, own) in made.items():
        pairs, own = pairs.double(), own.double().clamp_min(1e-30)
        for name, values in (
            ("EK-FAC", pairs[-1]),
            ("EK-FAC, relative", pairs[-1] / own[-1].sqrt()),
            ("EK-FAC, 5 checkpoints", pairs.mean(0)),
            ("EK-FAC, relative, 5 checkpoints", pairs.mean(0) / own.mean(0).sqrt()),
        ):
            found[f"kronfluence {name}, {damping}"] = judged(values, people.entailed)
    return found


def kronfluence(python: Path, problem: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """By damping: pairs ``[checkpoints, queries, train]``, and examples on themselves ``[checkpoints, train]``.

    ``problem`` holds the ``shape`` of the `Transformer`, ``train`` and ``queries`` as ids and labels, ``checkpoints``;
    ``own=False`` spares the second.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, scores = Path(folder) / "problem.pt", Path(folder) / "scores.pt"
        torch.save(problem, given)
        script = [python, "-m", "experiments.facts.kronfluence_scores", given, scores]
        subprocess.run(script, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        return torch.load(scores, weights_only=True)


def main() -> None:
    try:
        python = environments.python("kronfluence")
    except environments.Unavailable as reason:
        sys.exit(f"kronfluence can't be used here: {reason}")
    watch = Stopwatch()
    with watch.stage("all seeds"):
        runs = [one_seed(seed, python) for seed in SEEDS]
    means = {name: {title: estimate([run[name][title] for run in runs]) for title in METRICS} for name in runs[0]}
    best = max(means, key=lambda name: float(means[name]["MRR"]))
    rows = [[name, *(str(means[name][title]) for title in METRICS)] for name in means]
    save(
        Result(
            id="facts_peer",
            title="Tracing facts by kronfluence",
            paper="not of a paper: the generator is this project's own",
            ours=f"{best}: MRR {means[best]['MRR']}, Recall@10 {means[best]['Recall@10']}",
            why=f"The people, questions and models of the other table, seeds {[*SEEDS]} of it, {EPOCHS} epochs. "
            "kronfluence takes linear layers alone: embeddings and norms are left out." + table(["", *METRICS], rows),
            numbers={
                "settings": SETTINGS,
                "seeds": [*SEEDS],
                "means": {
                    name: {
                        title: float(np.mean(np.concatenate([run[name][title] for run in runs]))) for title in METRICS
                    }
                    for name in means
                },
            },
            quick=QUICK,
        ),
        {},
        watch,
        folder="facts",
    )


if __name__ == "__main__":
    run(main)
