"""CIFAR-10 dogs, frogs and horses with EfficientNet-Lite0 features: stand-ins for the paper's dogs and fish, Inception.

The 32 × 32 photos are enlarged by bicubic interpolation and stored as bytes at 224 × 224: these bytes are the stored
images, in whose pixels distances are taken and which attacks change. (The paper's are 299 × 299.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import upweight as uw
from upweight import datasets
from upweight.datasets import features as eff

SIZE, L2 = 224, 0.001
TRAIN, TEST = 900, 300


@dataclass(frozen=True)
class Pair:
    """Two classes: stored images as bytes [n, 3, size, size], features [n, 1280] in float64, labels 0 and 1."""

    names: tuple[str, str]
    images: np.ndarray
    features: torch.Tensor
    labels: torch.Tensor
    test_images: np.ndarray
    test_features: torch.Tensor
    test_labels: torch.Tensor

    @property
    def queries(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The test images as queries of the feature model."""
        return self.test_features, self.test_labels


def pair(first: str, second: str, size: int = SIZE, train: int = TRAIN, test: int = TEST) -> Pair:
    """The first ``train`` and ``test`` images of each class, in the data set's order."""
    data = datasets.load("cifar10")
    found = []
    for split, count in (("train", train), ("test", test)):
        images, labels = data.split(split)
        chosen = np.concatenate(
            [np.flatnonzero(labels == data.classes.index(name))[:count] for name in (first, second)]
        )
        stored = eff.stored_at(images[chosen], size)
        found += [
            stored,
            torch.from_numpy(eff.cached_features(stored)).double(),
            torch.arange(2).repeat_interleave(count),
        ]
    return Pair((first, second), *found)


def logistic(data: Pair, l2: float = L2) -> uw.Objective:
    """Logistic regression without bias on the features, at its optimum."""
    model = torch.nn.Linear(data.features.shape[1], 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    loss = uw.losses.BinaryLogistic()
    return uw.retraining.fit(uw.Objective(model, loss, (data.features, data.labels), l2=l2))


def network() -> torch.nn.Module:
    """The frozen network from stored images, as levels, to features."""
    return eff.of_levels(datasets.efficientnet.folded(datasets.efficientnet.model()))
