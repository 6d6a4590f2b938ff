"""The demonstration: flip labels of the digits, find them, explain an error, prove it by retraining.

Nothing is fetched: the 1,797 images come with scikit-learn. `upweight explore --demo` opens this file as a study.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn

from upweight import losses
from upweight.evaluation import Verification
from upweight.influence import Influence
from upweight.objective import Objective
from upweight.retraining import fit
from upweight.study import Study
from upweight.tasks import Explanation, LabelErrors, Predictions, explain, label_errors, predictions

L2 = 0.003
FLIPPED = 0.05
HELD_OUT = 0.3
CHECKED = (0.05, 0.1, 0.2)
LEFT_OUT = 20
EXAMPLES = 5
GALLERY = 20

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Digits:
    """Images in 0 … 1, ``[n, 64]``; ``given`` are the training labels with flips, ``true`` those without."""

    train: Floats
    true: Ints
    given: Ints
    flipped: Flags
    test: Floats
    test_labels: Ints


@dataclass(frozen=True, eq=False)
class Demo:
    """Everything that the demonstration found.

    Attributes
    ----------
    orders
        For each method, training positions in the order in which they are checked, ``[train]``.
    auc
        For each method, the probability that a flipped label ranks before a right one.
    query
        Position of the test image that is explained.
    """

    digits: Digits
    objective: Objective
    errors: LabelErrors
    orders: dict[str, Ints]
    auc: dict[str, float]
    test: Predictions
    query: int
    explanation: Explanation
    verification: Verification
    seconds: dict[str, float]

    @property
    def accuracy(self) -> float:
        """Share of the test images that are recognised."""
        return float((~self.test.wrong).double().mean())

    def examples(self) -> list[tuple[str, int, float]]:
        """Side, training position and score of the most helpful and most harmful images."""
        sides = (("helpful", self.explanation.helpful), ("harmful", self.explanation.harmful))
        return [
            (side, position, score)
            for side, ranking in sides
            for position, score in zip(ranking.positions[0].tolist(), ranking.scores[0].tolist(), strict=True)
        ]

    def recovery(self, method: str) -> list[float]:
        """Share of the flipped labels found by checking each share of the training data in ``CHECKED``."""
        found = self.digits.flipped[self.orders[method]]
        return [float(found[: round(share * len(found))].sum() / found.sum()) for share in CHECKED]


def run(seed: int = 0, stage: Callable[[str], None] = lambda text: None) -> Demo:
    """Run the demonstration; ``stage`` is told what is being done."""
    watch = Watch()
    digits = flipped_digits(seed)
    stage(f"flipped {digits.flipped.sum()} of {len(digits.given):,} training labels; training a softmax regression")
    objective = train(digits)
    watch.lap("training")
    stage("ranking all training labels by suspicion")
    influence = Influence(objective)
    errors = label_errors(influence, method="out-of-sample")
    scores = {
        "out-of-sample loss": errors.attribution.scores.numpy(),
        "self-influence": influence.self_influence().scores.numpy(),
        "loss": objective.losses().numpy(),
        "random": np.random.default_rng(seed).random(objective.n),
    }
    watch.lap("finding label errors")
    stage("explaining one wrong prediction")
    test = predictions(objective, (digits.test, digits.test_labels))
    query = test.hardest()
    asked = (digits.test[[query]], digits.test_labels[[query]])
    explanation = explain(influence, asked, EXAMPLES, query_ids=[query])
    watch.lap("explaining")
    stage(f"retraining {LEFT_OUT} times without one example")
    verification = influence.verify(asked, LEFT_OUT)
    watch.lap("verifying")
    return Demo(
        digits,
        objective,
        errors,
        {name: np.argsort(-values, kind="stable") for name, values in scores.items()},
        {name: float(roc_auc_score(digits.flipped, values)) for name, values in scores.items()},
        test,
        query,
        explanation,
        verification,
        watch.laps,
    )


def flipped_digits(seed: int) -> Digits:
    """The digits, split, with a share of the training labels changed to another digit."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=HELD_OUT, stratify=labels, random_state=seed)
    train_images, test_images, true, test_labels = parts
    random = np.random.default_rng(seed)
    flipped = np.zeros(len(true), dtype=bool)
    flipped[random.choice(len(true), round(FLIPPED * len(true)), replace=False)] = True
    shift = random.integers(1, 10, len(true))
    given = np.where(flipped, (true + shift) % 10, true)
    return Digits(train_images, true, given, flipped, test_images, test_labels)


def train(digits: Digits) -> Objective:
    """Softmax regression in float64 at the optimum of its regularised risk."""
    model = nn.Linear(64, 10, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)  # the optimum is one, wherever it is approached from
    return fit(Objective(model, losses.CrossEntropy(), (digits.train, digits.given), l2=L2))


def study(seed: int = 0) -> Study:
    """The digits with flipped labels, trained on, and the test images as queries."""
    digits = flipped_digits(seed)
    return Study(
        train(digits),
        (digits.test, digits.test_labels),
        class_names=[str(digit) for digit in range(10)],
        images=digits.train.reshape(-1, 8, 8),
        query_images=digits.test.reshape(-1, 8, 8),
    )


class Watch:
    """Seconds by task."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, task: str) -> None:
        """Note the seconds since the last one."""
        now = time.perf_counter()
        self.laps[task] = now - self._last
        self._last = now
