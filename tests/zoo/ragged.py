"""Examples of different lengths, padded to the longest of their batch: forms change from batch to batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import upweight as uw
from zoo.attention import Classifier
from zoo.case import CLASSES, WORDS, Case, D, N, compared, cross_entropy, whole
from zoo.recurrent import Packed

PLACES = 3
SHORT_FIRST = (2, 4, 3, 1, 4, 2)
"""The first, the middle and the last, which are looked at first, are shorter than the others."""
ONE_FIRST = (1, 4, 3, 1, 2, 1)


class Frames(nn.Module):
    """Time first, then examples, then several places a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.scale = nn.Linear(D, 4), nn.LayerNorm(4), nn.Parameter(torch.randn(4))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, here: Tensor) -> Tensor:
        rows = (self.norm(self.first(x.transpose(0, 1))) * self.scale).tanh() * here.T[:, :, None, None]
        return self.head(rows.sum((0, 2)))


class FramesOfImages(nn.Module):
    """Convolutions of all frames as one batch, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(PLACES, 4, 2), nn.GroupNorm(2, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, here: Tensor) -> Tensor:
        frames = x.transpose(0, 1)
        rows = self.norm(self.conv(frames.flatten(0, 1))).tanh().mean(-1).unflatten(0, frames.shape[:2])
        return self.head((rows * here.T[..., None]).sum(0))


class TimeFirst(nn.Module):
    """Time first."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.look = nn.Embedding(WORDS, 4), nn.MultiheadAttention(4, 2)
        self.up, self.head = nn.Linear(4, 5), nn.Linear(5, CLASSES)

    def forward(self, index: Tensor, here: Tensor) -> Tensor:
        x = self.words(index.T.contiguous())
        x = x + self.look(x, x, x, key_padding_mask=~here)[0]
        return self.head((self.up(x).tanh() * here.T[..., None]).sum(0))


class Between(nn.Module):
    """Examples between time and places, by a product of a whole slab."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(D, 4)), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, here: Tensor) -> Tensor:
        slab = x.permute(1, 0, 2, 3).reshape(-1, D)
        rows = (slab @ self.weight).relu().reshape(x.shape[1], len(x), PLACES, 4) * here.T[:, :, None, None]
        return self.head(rows.amax(2).sum(0))


def together(examples: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Padded to the longest."""
    rows = pad_sequence([x for x, _ in examples], batch_first=True)
    here = torch.arange(rows.shape[1])[None] < torch.tensor([len(x) for x, _ in examples])[:, None]
    return rows, here, torch.tensor([y for _, y in examples])


def of_lengths(model: nn.Module, lengths: tuple[int, ...], *width: int) -> Case:
    data: list[Any] = [(torch.randn(length, *width), place % CLASSES) for place, length in enumerate(lengths)]
    if not width:
        data = [(torch.randint(1, WORDS, (length,)), place % CLASSES) for place, length in enumerate(lengths)]
    assert len(data) == N
    return Case(model, data, uw.losses.CrossEntropy(), compared(cross_entropy, whole), collate=together)


class Sentences(Classifier):
    """Padding is known by its number."""

    def forward(self, index: Tensor, here: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.where(here, index, 0))


MODELS: dict[str, Callable[[], Case]] = {
    "ragged, packed": lambda: of_lengths(Packed(nn.LSTM), SHORT_FIRST, D),
    "ragged, time first": lambda: of_lengths(TimeFirst(), SHORT_FIRST),
    "ragged, time first, one step at first": lambda: of_lengths(TimeFirst(), ONE_FIRST),
    "ragged, time first, then examples, then places": lambda: of_lengths(Frames(), SHORT_FIRST, PLACES, D),
    "ragged, places, one step at first": lambda: of_lengths(Frames(), ONE_FIRST, PLACES, D),
    "ragged, examples between": lambda: of_lengths(Between(), SHORT_FIRST, PLACES, D),
    "ragged, frames of images time first": lambda: of_lengths(FramesOfImages(), SHORT_FIRST, PLACES, D),
    "ragged, encoder of sentences": lambda: of_lengths(Sentences(), SHORT_FIRST),
}
