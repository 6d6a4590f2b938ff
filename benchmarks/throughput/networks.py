"""Networks of the size people work at, beside those of `benchmarks.fidelity.models`: torch only, ordinary modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.fidelity.models import Block, convolution


class Stage(nn.Module):
    """Two residual blocks of two 3×3 convolutions; the first halves the image where ``stride`` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = Residual(inputs, outputs, stride)
        self.second = Residual(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, outputs, height / stride, width / stride]``."""
        return self.second(self.first(x))


class Residual(nn.Module):
    """ReLU(shortcut of x plus two convolutions of x), with GroupNorm, as in ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm_1 = nn.GroupNorm(max(1, outputs // 16), outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_2 = nn.GroupNorm(max(1, outputs // 16), outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, outputs, height / stride, width / stride]``."""
        hidden = torch.relu(self.norm_1(self.first(x)))
        return torch.relu(self.shortcut(x) + self.norm_2(self.second(hidden)))


class ResNet18(nn.Module):
    """ResNet-18 with GroupNorm for images of 32 × 32."""

    def __init__(self, width: int = 64, classes: int = 10):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        stages = [
            Stage(before, after, 1 if before == after else 2)
            for before, after in zip([width, *widths], widths, strict=False)
        ]
        self.body = nn.Sequential(
            convolution(3, width), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, classes]``."""
        return self.body(x)


class GPT(nn.Module):
    """A causal transformer with a vocabulary and a context of its own; GPT-2's form with an untied head.

    GPT-2 itself ties the head to the token embedding, which hooks on modules can't tell apart.
    """

    def __init__(self, width: int, heads: int, blocks: int, *, vocabulary: int, context: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next token, ``[batch, positions, vocabulary]``."""
        places = torch.arange(x.shape[-1], device=x.device).expand_as(x)  # a batch of its own, as hooks expect
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions(places))))


class Recurrent(nn.Module):
    """A character model of LSTM layers."""

    def __init__(self, width: int, layers: int, *, vocabulary: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next character, ``[batch, positions, vocabulary]``."""
        return self.head(self.lstm(self.tokens(x))[0])
