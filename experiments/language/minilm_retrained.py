"""Is what `minilm` explains so? The same training without the messages that it names, and without random ones.

Runs after `experiments.language.minilm`, whose scores it reads.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import torch

from experiments.language.minilm_explained import LEFT_OUT
from experiments.language.newsgroups import GROUPS, QUICK, SETTINGS, fine_tuned, logits, messages, tokenizer
from experiments.results import HERE, Result, Stopwatch, save, table
from experiments.resume import over_seeds
from experiments.running import run

RUNS = range(3 if QUICK else 6)
"""Without the most harmful, without the most helpful, and four times without random messages."""


def retrained(number: int, order: list[int], query: int) -> dict[str, Any]:
    """The query's loss after training without some: the most harmful (0), the most helpful (1), random ones."""
    words = tokenizer()
    data = messages(0, words)
    count = round(LEFT_OUT * len(order))
    random = np.random.default_rng(number).choice(len(order), count, replace=False)
    left_out = {0: order[:count], 1: order[-count:]}.get(number, random.tolist())
    rows = [row for k, row in enumerate(data.train) if k not in set(left_out)]
    trainer, seconds = fine_tuned(rows, words, 0)
    given = logits(trainer, [data.test[query]])
    loss = torch.nn.functional.cross_entropy(given, torch.tensor([data.test[query]["label"]]))
    return {
        "left_out": ("most harmful", "most helpful")[number] if number < 2 else "random",
        "count": count,
        "loss": float(loss),
        "predicted": GROUPS[int(given.argmax())],
        "training_cpu_seconds": seconds,
    }


def main() -> None:
    watch = Stopwatch()
    kept = HERE / "language" / ("quick" if QUICK else "results") / "minilm_explained.json"
    explained = json.loads(kept.read_text())["numbers"]["explained"]
    order, query = explained["order"], explained["query"]
    with watch.stage("retraining"):
        one = partial(retrained, order=order, query=query)
        runs = over_seeds("minilm-retrained", one, RUNS, settings=[SETTINGS, LEFT_OUT, order, query], jobs=2)
    random = [run["loss"] for run in runs if run["left_out"] == "random"]
    harmful, helpful = (run["loss"] for run in runs[:2])
    save(
        Result(
            id="minilm_retrained",
            title="The explanation checked by retraining (MiniLM)",
            paper="not of a paper",
            ours=f"loss of the mistake {explained['loss']:.2f}; without the {runs[0]['count']} most harmful messages "
            f"{harmful:.2f}, without the most helpful {helpful:.2f}, without as many random ones {min(random):.2f} to "
            f"{max(random):.2f}",
            why="From the same weights with the same seed. Leaving messages out gives other batches, and the random "
            "ones say how much that alone does."
            + table(
                ["left out", "loss", "prediction"],
                [[f"{run['count']} {run['left_out']}", f"{run['loss']:.3f}", run["predicted"]] for run in runs],
            ),
            numbers={"retrained": runs},
            quick=QUICK,
            seconds=sum(run["cpu_seconds"] for run in runs),
            peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
        ),
        {},
        watch,
        folder="language",
    )


if __name__ == "__main__":
    run(main)
