"""The models of the fidelity tasks; torch only, since every peer's environment imports this file.

Only ordinary modules that every system can hook: Linear, Conv2d, GroupNorm, LayerNorm, Embedding. No dropout, no
running statistics and no in-place step, so that a model is the same function in training and evaluation.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RETRAINED = ("mnist-mlp", "digits", "cifar-cnn", "char-gpt")
"""Tasks whose scores are held against retraining."""
CONVEX = ("1-vs-7", "ten-digits")
"""Tasks of which every system finds the same answer, so that only speed and memory differ."""
TASKS = RETRAINED + CONVEX

CHARACTERS = 84
"""Distinct characters in the plays of Shakespeare."""

CONTEXT = 128
"""Characters that the language model reads."""


def build(task: str) -> nn.Module:
    """The task's model with fresh weights, from torch's global generator.

    Raises
    ------
    KeyError
        If there is no such task.
    """
    return {
        "digits": lambda: mlp(64, 64, 10),
        "mnist-mlp": lambda: mlp(784, 256, 128, 10),
        "cifar-cnn": lambda: ConvNet(16, 32, 64),
        "char-gpt": lambda: CharGPT(width=48, heads=4, blocks=2),
        "1-vs-7": lambda: nn.Linear(784, 1, bias=False),
        "ten-digits": lambda: nn.Linear(784, 10, bias=False),
    }[task]()


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each example, ``[batch]``, in nats; sequences sum over their positions."""
    return loss_of_outputs(model(x), y)


def loss_of_outputs(outputs: Tensor, y: Tensor) -> Tensor:
    """The loss of outputs ``[batch, classes]`` or ``[batch, positions, classes]``, one per example.

    Where there is one output only, it is a logit, and labels are 0.0 or 1.0.
    """
    if outputs.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(outputs[..., 0], y, reduction="none")
    each = F.cross_entropy(outputs.flatten(0, -2), y.flatten(), reduction="none")
    return each.reshape(len(y), -1).sum(1)


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution, GroupNorm with eight channels to a group, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.GroupNorm(outputs // 8, outputs), nn.ReLU()
    )


class Residual(nn.Module):
    """x plus two convolutions of x."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return x + self.second(self.first(x))


class ConvNet(nn.Module):
    """ResNet-9 at narrow widths, for images ``[batch, 3, 32, 32]``."""

    def __init__(self, narrow: int, middle: int, wide: int, classes: int = 10):
        super().__init__()
        self.body = nn.Sequential(
            convolution(3, narrow),
            nn.MaxPool2d(2),
            convolution(narrow, middle),
            nn.MaxPool2d(2),
            Residual(middle),
            convolution(middle, wide),
            nn.MaxPool2d(2),
            Residual(wide),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(wide, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, classes]``."""
        return self.head(self.body(x))


class Attention(nn.Module):
    """Causal self-attention over ``[batch, positions, width]``."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(-2, -3).flatten(-2))


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each after a LayerNorm and added to its input."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm_1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm_2, self.mlp = nn.LayerNorm(width), mlp(width, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class CharGPT(nn.Module):
    """A causal transformer over characters ``[batch, positions]``, positions ≤ ``CONTEXT``."""

    def __init__(self, width: int, heads: int, blocks: int):
        super().__init__()
        self.tokens = nn.Embedding(CHARACTERS, width)
        self.positions = nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CHARACTERS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next character, ``[batch, positions, CHARACTERS]``."""
        places = torch.arange(x.shape[-1], device=x.device).expand_as(x)  # a batch of its own, as hooks expect
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions(places))))
