"""The data of the fidelity tasks, model-ready: training and query examples as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from benchmarks.fidelity.models import CHARACTERS, CONTEXT
from upweight.datasets import load

DIGITS_TRAIN, DIGITS_QUERIES = 1000, 200
MNIST_TRAIN, MNIST_QUERIES = 5000, 500
CIFAR_TRAIN, CIFAR_QUERIES = 5000, 200
SEQUENCES, SEQUENCE_QUERIES = 2000, 50


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs float32 ``[n, ...]`` (int64 for characters) and int64 targets, of training examples and queries."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    @property
    def n(self) -> int:
        """Number of training examples."""
        return len(self.x_train)


@cache
def read(task: str) -> Data:
    """The task's data, fetched first where needed; read once in each process.

    Raises
    ------
    DataUnavailable
        If it can't be had, with the reason.
    KeyError
        If there is no such task.
    """
    return {"digits": digits, "mnist-mlp": mnist, "cifar-cnn": cifar, "char-gpt": shakespeare}[task]()


def digits_order() -> np.ndarray:
    """The order of the digits: a seeded permutation, since the data come sorted by writer."""
    return np.random.default_rng(0).permutation(len(load("digits").images))


def digits() -> Data:
    """scikit-learn's digits, grey levels to 0 … 1, in the order of ``digits_order``."""
    data, order = load("digits"), digits_order()
    x = torch.from_numpy(data.images.reshape(-1, 64)[order]).float() / 16
    y = torch.from_numpy(data.labels[order])
    end = DIGITS_TRAIN + DIGITS_QUERIES
    return Data(x[:DIGITS_TRAIN], y[:DIGITS_TRAIN], x[DIGITS_TRAIN:end], y[DIGITS_TRAIN:end])


def mnist() -> Data:
    """The first MNIST images of both splits, pixels to 0 … 1."""
    data = load("mnist")
    parts = []
    for split, count in (("train", MNIST_TRAIN), ("test", MNIST_QUERIES)):
        images, labels = data.split(split)
        parts += [torch.tensor(images[:count]).reshape(count, -1).float() / 255, torch.tensor(labels[:count])]
    return Data(*parts)


def cifar() -> Data:
    """The first CIFAR-10 images of both splits, each channel at mean 0 and variance 1 over the training images."""
    data = load("cifar10")
    parts = []
    for split, count in (("train", CIFAR_TRAIN), ("test", CIFAR_QUERIES)):
        images, labels = data.split(split)
        parts += [torch.tensor(images[:count]).permute(0, 3, 1, 2).float() / 255, torch.tensor(labels[:count])]
    variance, mean = torch.var_mean(parts[0], (0, 2, 3), keepdim=True)
    return Data((parts[0] - mean) / variance.sqrt(), parts[1], (parts[2] - mean) / variance.sqrt(), parts[3])


def shakespeare() -> Data:
    """Consecutive sequences of the plays; a character's target is the next one.

    The queries are evenly spaced among the training sequences, so that each has neighbours of its own scene.
    """
    plays = load("shakespeare")
    if len(plays.characters) != CHARACTERS:
        raise ValueError(f"the plays have {len(plays.characters)} distinct characters; the model is for {CHARACTERS}")
    count = SEQUENCES + SEQUENCE_QUERIES
    number = {character: k for k, character in enumerate(plays.characters)}
    numbers = torch.tensor([number[character] for character in plays.text[: count * (CONTEXT + 1)]])
    sequences = numbers.reshape(count, CONTEXT + 1)
    every = count // SEQUENCE_QUERIES
    asked = torch.arange(count) % every == every // 2
    train, queries = sequences[~asked], sequences[asked]
    return Data(train[:, :-1], train[:, 1:], queries[:, :-1], queries[:, 1:])
