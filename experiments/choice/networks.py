"""Small networks of five kinds, whose training takes well under a second."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def perceptron(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """Dense layers of flattened inputs."""
    layers: list[nn.Module] = [nn.Flatten()]
    for number, (before, after) in enumerate(pairwise(widths)):
        layers += [*([activation()] if number else []), nn.Linear(before, after)]
    return nn.Sequential(*layers)


def batch_normed(columns: int) -> nn.Module:
    """Two hidden layers with BatchNorm, for a table and two classes."""
    layers = [nn.Linear(columns, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 24), nn.BatchNorm1d(24), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(24, 2))


def convolutional(channels: int, side: int, *, smooth: bool) -> nn.Module:
    """Two convolutions: GELU and mean pooling, or ReLU and the largest."""

    def act() -> nn.Module:
        return nn.GELU() if smooth else nn.ReLU()

    pool = nn.AvgPool2d if smooth else nn.MaxPool2d
    return nn.Sequential(
        *(nn.Conv2d(channels, 10, 3, padding=1), act(), pool(2)),
        *(nn.Conv2d(10, 20, 3, padding=1), act(), pool(2), nn.Flatten()),
        nn.Linear(20 * (side // 4) ** 2, 10),
    )


class Recurrent(nn.Module):
    """An LSTM over the rows of an image, read at its last step."""

    def __init__(self, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.cell = nn.LSTM(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``[batch, steps, inputs]``."""
        return self.head(self.cell(x)[0][:, -1])


class Transformer(nn.Module):
    """One block of attention over the rows of an image, their mean read out."""

    def __init__(self, inputs: int, steps: int, width: int, heads: int, classes: int):
        super().__init__()
        self.heads = heads
        self.embedding = nn.Linear(inputs, width)
        self.places = nn.Parameter(0.1 * torch.randn(steps, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.joined, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``[batch, steps, inputs]``."""
        x = self.embedding(x) + self.places
        joined = self.joined(self.norms[0](x)).unflatten(-1, (3 * self.heads, -1)).transpose(-2, -3)
        q, k, v = joined.chunk(3, -3)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(-2, -3).flatten(-2))
        x = x + self.inner(self.norms[1](x))
        return self.head(self.norms[2](x).mean(-2))
