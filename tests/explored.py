"""A small store with all that a page shows: a softmax regression on drawn numbers, pictures, columns with marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import upweight as uw
from upweight.explore import Contents, Given, Origin, made
from upweight.retraining import fit
from upweight.store.backend import Local

N, M, CLASSES = 36, 7, ("ant", "bee", "cat")
MARK = "<img src=x onerror=\"document.body.dataset.ran='yes'\">"
"""Were it taken for HTML, an element with a name to look for would be on the page; it does no harm."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A trained objective, its queries, and what is known of both."""

    objective: uw.Objective
    queries: tuple[torch.Tensor, torch.Tensor]
    own: Mapping[str, np.ndarray]
    query_own: Mapping[str, np.ndarray]


@cache
def problem() -> Problem:
    """Three classes of points, one label of which is wrong."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(N) % 3
    centres = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]], dtype=torch.float64)
    x = centres[y] + torch.randn(N, 4, generator=generator, dtype=torch.float64)
    y = torch.where(torch.arange(N) == 5, (y + 1) % 3, y)
    model = torch.nn.Linear(4, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    objective = fit(uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.05))
    labels = torch.arange(M) % 3
    queries = centres[labels] + torch.randn(M, 4, generator=generator, dtype=torch.float64), labels
    return Problem(objective, queries, columns(N), columns(M))


WRONG_NUMBER = 4


@cache
def wrong_numbers(dtype: torch.dtype = torch.float64) -> uw.tasks.TargetErrors:
    """Of a ridge regression on numbers with two digits after the point, one of which is wrong."""
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    y = torch.round(x.sum(1, keepdim=True), decimals=2)
    y[WRONG_NUMBER] = 9.25
    model = torch.nn.Linear(3, 1, dtype=dtype)
    return uw.tasks.target_errors(uw.retraining.fit(uw.Objective(model, uw.losses.SquaredError(), (x, y), l2=0.01)))


def columns(count: int) -> dict[str, np.ndarray]:
    ages = np.arange(count, dtype=float) / 2
    ages[3] = np.nan
    words = [f"row {k} {MARK if k == 2 else 'of a longer text that people read, word by word'}" for k in range(count)]
    return {
        "age": ages,
        "city": np.array([("Bonn", "Köln", MARK)[k % 3] for k in range(count)]),
        "words": np.array(words),
        "<b>bold</b>": np.arange(count) % 4 == 0,
    }


def store(place: Path, *, pictures: bool = True, origin: Origin | None = None, **options: Any) -> Path:
    """Made at a place; ``options`` of `Influence.attribute`."""
    one = problem()
    influence = uw.Influence(one.objective)
    influence.attribute(one.queries, store=place, columns={}, **options)
    images = np.linspace(0, 1, N * 16).reshape(N, 4, 4) if pictures else None
    given = Given(
        "<i>title</i>", class_names=CLASSES, images=images, query_images=None if images is None else images[:M],
        own=one.own, query_own=one.query_own, origin=origin,
    )  # fmt: skip
    made(Local(place), one.objective, one.queries, given, query_ids=np.arange(M))
    return place


def contents(place: Path, **options: Any) -> Contents:
    """The same, opened."""
    return Contents(store(place, **options))
