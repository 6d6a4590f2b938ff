"""MiniLM fine-tuned on newsgroup messages by `Trainer`: its flipped labels, and one wrong prediction explained.

Seeds differ in messages, flips and training. The first seed's worst mistake is explained.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.language import minilm_explained, minilm_labels
from experiments.language.newsgroups import QUICK, SETTINGS, fine_tuned, logits, messages, tokenizer
from experiments.results import Stopwatch, save
from experiments.resume import over_seeds
from experiments.running import run

SEEDS = range(1 if QUICK else 2)


def one_seed(seed: int) -> dict[str, Any]:
    """Flip labels, fine-tune, rank; of the first seed explain a mistake."""
    words = tokenizer()
    data = messages(seed, words)
    trainer, seconds = fine_tuned(data.train, words, seed)
    tested = logits(trainer, data.test)
    found, influence = minilm_labels.scored(trainer, data)
    if seed == 0:
        found["explained"] = minilm_explained.explained(influence, data, tested, words)
    return {
        **found,
        "training_cpu_seconds": seconds,
        "test_accuracy": float(np.mean(tested.argmax(1).numpy() == [row["label"] for row in data.test])),
    }


def main() -> None:
    watch = Stopwatch()
    settings = [SETTINGS, minilm_labels.BLOCKS, minilm_labels.METHODS, minilm_explained.LEFT_OUT]
    with watch.stage("all seeds"):
        runs = over_seeds("minilm", one_seed, SEEDS, settings=settings, jobs=2)
    save(*minilm_labels.result(runs, QUICK), watch, folder="language")
    save(minilm_explained.result(runs[0]["explained"], runs[0], QUICK), {}, watch, folder="language")


if __name__ == "__main__":
    run(main)
