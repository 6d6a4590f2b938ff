"""Networks of the size people work at, with random data: torch only, since every peer's environment imports this file.

Speed and memory don't depend on what a network has learnt, so that nothing is trained here; agreement of scores is
between systems, not with retraining (for that see `benchmarks.fidelity`). Only ordinary modules that every system can
hook.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.fidelity.models import CHARACTERS, CharGPT, convolution, mlp


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
        self.norm_1 = nn.GroupNorm(outputs // 16, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_2 = nn.GroupNorm(outputs // 16, outputs)
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


@dataclass(frozen=True)
class Problem:
    """A network and its random data.

    Attributes
    ----------
    build
        The network, with weights from torch's generator.
    draw
        So many inputs and targets.
    train, queries
        Examples of either.
    batch
        Examples of a pass of a system that asks for them.
    tokens
        Positions of an example that have a loss.
    """

    build: Callable[[], nn.Module]
    draw: Callable[[int], tuple[Tensor, Tensor]]
    train: int
    queries: int
    batch: int
    tokens: int = 1

    def of(self, train: int | None, queries: int | None) -> Problem:
        """The same with fewer examples."""
        return replace(self, train=train or self.train, queries=queries or self.queries)

    def made(self) -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The network, training data and queries; the same in every process."""
        torch.manual_seed(0)
        model = self.build().eval()
        return model, self.draw(self.train), self.draw(self.queries)


def images(*shape: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Normal numbers with one of ten classes."""
    return lambda count: (torch.randn(count, *shape), torch.randint(10, (count,)))


def sequences(length: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Characters, each followed by the next."""

    def draw(count: int) -> tuple[Tensor, Tensor]:
        drawn = torch.randint(CHARACTERS, (count, length + 1))
        return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()

    return draw


PROBLEMS = {
    "mlp": Problem(lambda: mlp(784, 256, 128, 10), images(784), 60_000, 200, 500),
    "resnet-18": Problem(ResNet18, images(3, 32, 32), 500, 20, 25),
    "gpt": Problem(lambda: CharGPT(width=384, heads=6, blocks=6), sequences(128), 128, 10, 16, tokens=128),
}
