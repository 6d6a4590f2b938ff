"""Models that hold every layer people use, each with a batch: what per-example gradients are compared on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

N, T, D, WORDS, CLASSES = 7, 5, 8, 11, 3


@dataclass(frozen=True)
class Example:
    model: nn.Module
    x: Tensor
    y: Tensor
    slow: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


class Attention(nn.Module):
    def __init__(self, batch_first: bool, cross: bool):
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 2, batch_first=batch_first)
        self.head = nn.Linear(D, CLASSES)
        self.first, self.cross = batch_first, cross

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        other = x.flip(1 if self.first else 0) if self.cross else x
        out = self.attention(x, other, other)[0]
        return self.head(out.mean(1 if self.first else 0))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], batch_first: bool, **options: object):
        super().__init__()
        self.cell = kind(D, 6, batch_first=batch_first, **options)
        self.head = nn.Linear(12 if options.get("bidirectional") else 6, CLASSES)
        self.first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        out = self.cell(x if self.first else x.transpose(0, 1))[0]
        return self.head(out.mean(1 if self.first else 0))


class Language(nn.Module):
    """Token and position embeddings, one block used twice, a head that may share the tokens' table."""

    def __init__(self, tied: bool = False, checkpointed: bool = False):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(WORDS, D), nn.Embedding(9, D)
        self.norm, self.up, self.down = nn.LayerNorm(D), nn.Linear(D, 16), nn.Linear(16, D)
        self.head = nn.Linear(D, WORDS, bias=False)
        self.checkpointed = checkpointed
        if tied:
            self.head.weight = self.tokens.weight

    def block(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))

    def forward(self, index: Tensor) -> Tensor:
        x = self.tokens(index) + self.positions(torch.arange(index.shape[1]))
        for _ in range(2):
            x = checkpoint(self.block, x, use_reentrant=False) if self.checkpointed else self.block(x)
        return self.head(x)


class PlainParameters(nn.Module):
    """A scale, a bias, a class token, position vectors cut to length, a number, and one that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.randn(D)), nn.Parameter(torch.randn(D))
        self.token, self.places = nn.Parameter(torch.randn(1, 1, D)), nn.Parameter(torch.randn(1, 12, D))
        self.number, self.idle = nn.Parameter(torch.tensor(1.3)), nn.Parameter(torch.randn(3))
        self.divided = nn.Parameter(torch.randn(D))
        self.head = nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x * self.scale - self.bias], 1)
        x = x + self.places[:, : x.shape[1]] + self.divided / (1 + x**2)
        return self.number * self.head(torch.tanh(x).mean(1))


class Adapter(nn.Module):
    """LoRA: a frozen layer with a product of two small ones beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(D, D).requires_grad_(False)
        self.down, self.up = nn.Linear(D, 2, bias=False), nn.Linear(2, D, bias=False)
        self.head = nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.base(x) + 0.5 * self.up(self.down(x))).mean(1))


class Conv1D(nn.Module):
    """GPT-2's layer: a linear one whose weight is stored as [in, out]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(D, 5)), nn.Parameter(torch.randn(5))
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.addmm(self.bias, x.view(-1, D), self.weight).view(*x.shape[:-1], 5)
        return self.head(torch.tanh(out).sum(1))


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(D, D), nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class BothWays(nn.Module):
    """One square weight used as it is and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(D, D)), nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(torch.tanh(x @ self.weight) @ self.weight.T))


def image(channels: int = 4) -> Tensor:
    return torch.randn(N, channels, 9, 9)


def classified(layer: nn.Module, x: Tensor, **options: tuple[str, ...]) -> Example:
    with torch.no_grad():
        width = layer.eval()(x)[0].numel()
    model = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(width, CLASSES))
    return Example(model, x, torch.randint(0, CLASSES, (N,)), **options)


def sequence(model: nn.Module, **options: tuple[str, ...]) -> Example:
    return Example(model, torch.randn(N, T, D), torch.randint(0, CLASSES, (N,)), **options)


def flat(model: nn.Module, **options: tuple[str, ...]) -> Example:
    return Example(model, torch.randn(N, D), torch.randint(0, CLASSES, (N,)), **options)


def words(model: nn.Module, per_word: bool = False, **options: tuple[str, ...]) -> Example:
    y = torch.randint(0, WORDS, (N, 6)) if per_word else torch.randint(0, CLASSES, (N,))
    return Example(model, torch.randint(0, WORDS, (N, 6)), y, **options)


def bag(**options: object) -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(WORDS, 6, **options), nn.Linear(6, CLASSES))


def normalised(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 6, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(6 * 49, CLASSES))


LAYERS: dict[str, Callable[[], Example]] = {
    "mlp": lambda: flat(nn.Sequential(nn.Linear(D, 5), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.Linear(4, CLASSES))),
    "attention, batch first": lambda: sequence(Attention(True, False)),
    "attention, sequence first": lambda: sequence(Attention(False, False)),
    "cross attention": lambda: sequence(Attention(True, True)),
    "cross attention, sequence first": lambda: sequence(Attention(False, True)),
    "LSTM": lambda: sequence(Recurrent(nn.LSTM, True)),
    "LSTM, two layers both ways, sequence first": lambda: sequence(
        Recurrent(nn.LSTM, False, num_layers=2, bidirectional=True)
    ),
    "GRU": lambda: sequence(Recurrent(nn.GRU, False)),
    "language model": lambda: words(Language(), per_word=True),
    "tied weights": lambda: words(Language(tied=True), per_word=True),
    "checkpointed": lambda: words(Language(checkpointed=True), per_word=True),
    "plain parameters": lambda: sequence(PlainParameters(), unused=("idle",)),
    "LoRA": lambda: sequence(Adapter()),
    "Conv1D of GPT-2": lambda: sequence(Conv1D()),
    "reused module": lambda: flat(Reused()),
    "a weight used both ways": lambda: flat(BothWays()),
    "embedding with padding": lambda: words(
        nn.Sequential(nn.Embedding(WORDS, 6, padding_idx=0), nn.Flatten(), nn.Linear(36, CLASSES))
    ),
    "embedding bag, mean": lambda: words(bag()),
    "embedding bag, sum with padding": lambda: words(bag(mode="sum", padding_idx=0)),
    "embedding bag, maximum": lambda: words(bag(mode="max"), slow=("0.weight",)),
    "conv1d": lambda: classified(nn.Conv1d(4, 6, 3, stride=2, dilation=2), torch.randn(N, 4, 11)),
    "conv1d, circular": lambda: classified(
        nn.Conv1d(4, 6, 3, padding="same", padding_mode="circular"), torch.randn(N, 4, 11)
    ),
    "conv2d": lambda: classified(nn.Conv2d(4, 6, 3, stride=2, padding=1), image()),
    "conv2d, uneven": lambda: classified(
        nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(0, 1), dilation=(1, 2), bias=False), image()
    ),
    "conv2d, groups": lambda: classified(nn.Conv2d(4, 8, 3, groups=2, dilation=2), image()),
    "conv2d, depthwise": lambda: classified(nn.Conv2d(4, 4, 3, groups=4), image()),
    "conv3d": lambda: classified(nn.Conv3d(4, 3, 3, padding="same"), torch.randn(N, 4, 5, 5, 5)),
    "transposed conv1d": lambda: classified(nn.ConvTranspose1d(4, 6, 3, stride=2, dilation=2), torch.randn(N, 4, 7)),
    "transposed conv2d": lambda: classified(
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), image()
    ),
    "transposed conv2d, groups": lambda: classified(nn.ConvTranspose2d(4, 6, 3, groups=2), image()),
    "transposed conv3d": lambda: classified(nn.ConvTranspose3d(4, 3, 2, stride=2), torch.randn(N, 4, 3, 3, 3)),
    "group norm": lambda: Example(normalised(nn.GroupNorm(3, 6)), image(), torch.randint(0, CLASSES, (N,))),
    "batch norm in eval mode": lambda: Example(normalised(nn.BatchNorm2d(6)), image(), torch.randint(0, CLASSES, (N,))),
    "layer norm over two dimensions": lambda: sequence(
        nn.Sequential(nn.LayerNorm((T, D)), nn.Flatten(), nn.Linear(T * D, CLASSES))
    ),
    "RMS norm": lambda: flat(nn.Sequential(nn.RMSNorm(D), nn.Linear(D, CLASSES))),
    "PReLU, which has no rule": lambda: flat(
        nn.Sequential(nn.Linear(D, 5), nn.PReLU(), nn.Linear(5, CLASSES)), slow=("1.weight",)
    ),
    "weight norm, which has no rule": lambda: flat(
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(D, 5)), nn.Tanh(), nn.Linear(5, CLASSES)),
        slow=("0.parametrizations.weight.original0", "0.parametrizations.weight.original1"),
    ),
}
