"""A softmax regression and what is asked of it, for calls that are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

import upweight as uw
from problems import Problem, convex, mlp

Row = tuple[str, str, str, Callable[[Any], Any]]
Form = tuple[Callable[[], Any], str]


@cache
def softmax() -> Problem:
    return convex("softmax")


@cache
def objective() -> uw.Objective:
    return softmax().objective()


@cache
def influence() -> uw.Influence:
    return uw.Influence(objective())


@cache
def attribution() -> uw.Attribution:
    return influence().attribute(queries())


@cache
def network() -> uw.Objective:
    return mlp().objective()


def queries() -> Any:
    return softmax().x[:3], softmax().y[:3]


def made(**options: Any) -> uw.Objective:
    return softmax().objective(**options)


def solved(inverse: Any) -> Any:
    return uw.Influence(objective(), inverse).attribute(queries())


def train(indices: Any, seed: int) -> Any:
    return objective().params


def linear(*data: Any, loss: Any = None, model: nn.Module | None = None, **options: Any) -> uw.Objective:
    loss = uw.losses.CrossEntropy() if loss is None else loss
    return uw.Objective(nn.Linear(3, 3).double() if model is None else model, loss, data, **options)


def x() -> Any:
    return softmax().x


def y() -> Any:
    return softmax().y


class Broken(Dataset):
    """Its eighth example can't be read."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> Any:
        if i == 7:
            raise KeyError("picture 7.png")
        return softmax().x[i], softmax().y[i]


def ignored(count: int) -> Any:
    return torch.full((count,), -100)
