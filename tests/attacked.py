"""A tiny smooth network on images of whole numbers, to attack by way of its training set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE


@dataclass(frozen=True)
class Small:
    """A tiny smooth network on 6 × 6 images, and the logistic or softmax top on its features."""

    network: nn.Module
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int

    @property
    def n(self) -> int:
        return len(self.images)

    def features(self, levels: Tensor) -> Tensor:
        return self.network(levels.double())

    def top(self, levels: Tensor | None = None) -> uw.Objective:
        """Trained from scratch on these training images."""
        features = self.features(self.images if levels is None else levels).detach()
        outputs = 1 if self.classes == 2 else self.classes
        loss = uw.losses.BinaryLogistic() if self.classes == 2 else uw.losses.CrossEntropy()
        model = nn.Linear(features.shape[1], outputs, bias=self.classes > 2, dtype=DOUBLE)
        nn.init.zeros_(model.weight)
        return uw.retraining.fit(uw.Objective(model, loss, (features, self.labels), l2=0.03), tolerance=1e-11)

    @property
    def queries(self) -> tuple[Tensor, Tensor]:
        return self.features(self.test_images).detach(), self.test_labels

    def arguments(self) -> tuple[Any, ...]:
        return self.top(), self.network, self.images, self.queries


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, dtype=DOUBLE)

    def forward(self, levels: Tensor) -> Tensor:
        return torch.sin(self.conv(levels * 4)).flatten(1)


@cache
def small(classes: int = 2) -> Small:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(3)
    network = Scaled().eval()
    base = torch.randint(40, 215, (classes, 1, 6, 6), generator=generator)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(n) % classes
        noise = torch.randint(-9, 10, (n, 1, 6, 6), generator=generator).div(8, rounding_mode="trunc")
        return (base[labels] + noise).clamp(0, 255).to(torch.uint8), labels

    return Small(network, *draw(24), *draw(8), classes)
