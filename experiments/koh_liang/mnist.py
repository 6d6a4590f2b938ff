"""MNIST as the paper uses it: pixels / 255, 55,000 training images (the first 5,000 held out), or 1 against 7."""

from __future__ import annotations

import torch
from torch import Tensor

from upweight import datasets

Split = tuple[Tensor, Tensor]
HELD_OUT = 5_000


def ten_classes(limit: int | None = None) -> tuple[Split, Split]:
    """(train, test) of all ten digits: inputs ``[n, 784]`` in float64, labels ``[n]``; n = 55,000 or ``limit``."""
    arrays = datasets.load("mnist").arrays
    train = _split(arrays["train_images"][HELD_OUT:][:limit], arrays["train_labels"][HELD_OUT:][:limit])
    return train, _split(arrays["test_images"], arrays["test_labels"])


def one_against_seven(limit: int | None = None) -> tuple[Split, Split]:
    """(train, test) of ones (+1) and sevens (−1), in canonical order; 13,007 training images or ``limit``."""
    arrays = datasets.load("mnist").arrays
    return (
        _pair(*_split(arrays["train_images"], arrays["train_labels"]), limit),
        _pair(*_split(arrays["test_images"], arrays["test_labels"]), None),
    )


def _split(images, labels) -> Split:
    pixels = torch.tensor(images.reshape(len(images), -1), dtype=torch.float64) / 255
    return pixels, torch.tensor(labels, dtype=torch.long)


def _pair(pixels: Tensor, labels: Tensor, limit: int | None) -> Split:
    chosen = ((labels == 1) | (labels == 7)).nonzero().flatten()[:limit]
    return pixels[chosen], torch.where(labels[chosen] == 1, 1, -1)
