"""Problems of the size people work at, with random data: torch only, since every peer's environment imports this file.

Speed and memory don't depend on what a network has learnt, so that nothing is trained here; agreement of scores is
between systems, not with retraining (for that see `benchmarks.fidelity`). Attributed to are the weights and biases of
linear layers and convolutions, which every system can hook; norms and embeddings are left out of all systems alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.fidelity.models import CHARACTERS, CharGPT, ConvNet, mlp
from benchmarks.throughput.networks import GPT, Recurrent, ResNet18

HOOKED = (nn.Linear, nn.Conv2d)
GPT_2 = 50_257
"""Tokens of GPT-2's vocabulary."""


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
    left_out
        Layers that no system attributes to, for their size.
    hookable
        Whether peers can hook the network; where they can't, all of it is attributed to.
    """

    build: Callable[[], nn.Module]
    draw: Callable[[int], tuple[Tensor, Tensor]]
    train: int
    queries: int
    batch: int
    tokens: int = 1
    left_out: tuple[str, ...] = ()
    hookable: bool = True

    def of(self, train: int | None, queries: int | None) -> Problem:
        """The same with fewer examples."""
        return replace(self, train=train or self.train, queries=queries or self.queries)

    def made(self) -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The network in evaluation mode, training data and queries; the same in every process."""
        torch.manual_seed(0)
        model = self.build().eval()
        return model, self.draw(self.train), self.draw(self.queries)

    def layers(self, model: nn.Module) -> list[str] | None:
        """The modules attributed to, None for all."""
        if not self.hookable:
            return None
        return [
            name for name, layer in model.named_modules() if isinstance(layer, HOOKED) and name not in self.left_out
        ]

    def parameters(self, model: nn.Module) -> list[str] | None:
        """The parameters attributed to, None for all."""
        layers = self.layers(model)
        if layers is None:
            return None
        return [f"{layer}.{name}" for layer in layers for name, _ in model.get_submodule(layer).named_parameters()]


def images(*shape: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Normal numbers with one of ten classes."""
    return lambda count: (torch.randn(count, *shape), torch.randint(10, (count,)))


def sequences(length: int, vocabulary: int = CHARACTERS) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Tokens, each followed by the next."""

    def draw(count: int) -> tuple[Tensor, Tensor]:
        drawn = torch.randint(vocabulary, (count, length + 1))
        return drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()

    return draw


CPU = {
    "mlp": Problem(lambda: mlp(784, 256, 128, 10), images(784), 60_000, 200, 500),
    "resnet-18": Problem(ResNet18, images(3, 32, 32), 500, 20, 25),
    "gpt": Problem(lambda: CharGPT(width=384, heads=6, blocks=6), sequences(128), 128, 10, 16, tokens=128),
}
GPU = {
    "gpu-mlp": Problem(lambda: mlp(784, 256, 128, 10), images(784), 5_000, 500, 1000),
    "gpu-resnet-9": Problem(lambda: ConvNet(64, 128, 256), images(3, 32, 32), 10_000, 200, 250),
    "gpu-transformer": Problem(
        lambda: CharGPT(width=768, heads=12, blocks=12), sequences(128), 1_000, 50, 50, tokens=128
    ),
    "gpu-gpt-2": Problem(
        lambda: GPT(width=768, heads=12, blocks=12, vocabulary=GPT_2, context=512),
        sequences(512, GPT_2),
        *(64, 8, 8),
        tokens=512,
        left_out=("head",),
    ),
    "gpu-lstm": Problem(
        lambda: Recurrent(512, 2, vocabulary=CHARACTERS), sequences(128), 200, 10, 50, tokens=128, hookable=False
    ),
}
PROBLEMS = CPU | GPU

SMALL = {
    "mlp": Problem(lambda: mlp(784, 16, 10), images(784), 40, 4, 20),
    "resnet-18": Problem(lambda: ResNet18(8), images(3, 8, 8), 6, 2, 3),
    "gpt": Problem(lambda: CharGPT(width=16, heads=2, blocks=1), sequences(16), 12, 2, 6, tokens=16),
    "gpu-mlp": Problem(lambda: mlp(784, 16, 10), images(784), 40, 4, 20),
    "gpu-resnet-9": Problem(lambda: ConvNet(8, 16, 16), images(3, 16, 16), 12, 2, 6),
    "gpu-transformer": Problem(lambda: CharGPT(width=16, heads=2, blocks=2), sequences(16), 12, 2, 6, tokens=16),
    "gpu-gpt-2": Problem(
        lambda: GPT(width=16, heads=2, blocks=1, vocabulary=200, context=32),
        sequences(32, 200),
        *(8, 2, 4),
        tokens=32,
        left_out=("head",),
    ),
    "gpu-lstm": Problem(
        lambda: Recurrent(16, 2, vocabulary=CHARACTERS), sequences(12), 8, 2, 4, tokens=12, hookable=False
    ),
}
"""The same forms at a size that takes no time: whether everything runs, not how fast."""


def problem(name: str, *, small: bool = False) -> Problem:
    """The problem of that name."""
    return (SMALL if small else PROBLEMS)[name]
