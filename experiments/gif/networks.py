"""The networks of the paper's experiments, of any width: VGG11, ResNet18, and a small CNN of p ≈ 398,000.

No torchvision: the layers are those of Simonyan & Zisserman (2015, A) and He et al. (2016) for 32 × 32 images (a first
convolution of stride 1 and no pooling behind it), with batch normalisation. At width 64 they are the published ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

VGG11 = (1, "pool", 2, "pool", 4, 4, "pool", 8, 8, "pool", 8, 8, "pool")
"""Channels in multiples of the width."""


def tiny_net() -> nn.Sequential:
    """For backdoors in MNIST: two convolutions and two linear layers, p = 397,672 (the paper's: 398,090)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 474), nn.ReLU(), nn.Linear(474, 10)),
    )


def vgg11(width: int = 64, channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Eight convolutions and one linear layer, for images of 32 × 32."""
    layers: list[nn.Module] = []
    for step in VGG11:
        if isinstance(step, int):
            layers += [nn.Conv2d(channels, step * width, 3, padding=1), nn.BatchNorm2d(step * width), nn.ReLU()]
            channels = step * width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, classes))


class Block(nn.Module):
    """Two convolutions of 3 × 3 and what goes past them."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
            *(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        same = stride == 1 and inputs == outputs
        self.past = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """ReLU of both ways' sum."""
        return torch.relu(self.body(x) + self.past(x))


def resnet18(width: int = 64, channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Eight blocks of two convolutions; images of 28 × 28 or 32 × 32."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inputs = width
    for factor, stride in ((1, 1), (2, 2), (4, 2), (8, 2)):
        layers += [Block(inputs, factor * width, stride), Block(factor * width, factor * width, 1)]
        inputs = factor * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
