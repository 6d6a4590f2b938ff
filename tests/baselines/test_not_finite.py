"""A training example whose gradient isn't finite is named, by whatever takes gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE
from upweight.errors import InputError


class Rooted(nn.Module):
    """|Wx| by a root, whose slope at zero is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(5, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x).square().sqrt())


def objective() -> uw.Objective:
    torch.manual_seed(0)
    x = torch.randn(12, 5, dtype=DOUBLE)
    x[4] = 0
    return uw.Objective(Rooted().double(), uw.losses.CrossEntropy(), (x, torch.arange(12) % 3), l2=0.1)


QUERIES = (torch.ones(2, 5, dtype=DOUBLE), torch.tensor([0, 1]))
METHODS: dict[str, Callable[[uw.Objective], Any]] = {
    "influence": lambda risk: uw.Influence(risk).attribute(QUERIES),
    "TracIn": lambda risk: uw.TracIn(risk, [risk.params], 1.0).attribute(QUERIES),
    "TracIn, cosines": lambda risk: uw.TracIn(risk, [risk.params], 1.0).attribute(QUERIES, normalize=True),
    "TracIn of itself": lambda risk: uw.TracIn(risk, [risk.params], 1.0).self_influence(),
    "TRAK": lambda risk: uw.TRAK(risk, dimension=8).attribute(QUERIES),
    "TRAK by signs": lambda risk: uw.TRAK(risk, dimension=8, projection="rademacher").self_influence(),
    "TRAK unprojected": lambda risk: uw.TRAK(risk, dimension=1000).attribute(QUERIES),
    "dot": lambda risk: uw.similarity.gradient_dot(risk, QUERIES),
    "cosine": lambda risk: uw.similarity.gradient_cosine(risk, QUERIES),
}


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
@pytest.mark.parametrize("name", METHODS)
def test_the_example_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"gradients: NaN or infinite for training example 4, .*look for a root"):
        METHODS[name](objective())
