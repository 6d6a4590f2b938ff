"""Data as people have them: any map-style dataset of pairs or mappings, for a network as for a linear model."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

import upweight as uw
from problems import DOUBLE, close
from upweight.messages import InputError

N = 20
CE = uw.losses.CrossEntropy()


def arrays() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 3, generator=generator, dtype=DOUBLE), torch.arange(N) % 3


class Pairs(Dataset):
    """Examples (x, y), the label a number of Python's."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        x, y = arrays()
        return x[i], int(y[i])


class Lists(Pairs):
    """The same as lists."""

    def __getitem__(self, i: int) -> Any:
        return list(super().__getitem__(i))


class Mappings(Pairs):
    """The same as mappings that are no dicts, as tokenizers give."""

    def __getitem__(self, i: int) -> Any:
        x, y = super().__getitem__(i)
        return UserDict({"input": x, "labels": y})


class Endless(Dataset):
    """Positions without a length."""

    def __getitem__(self, i: int) -> Any:
        return Pairs()[i % N]


def whole() -> TensorDataset:
    return TensorDataset(*arrays())


SOURCES: dict[str, Any] = {
    "pairs": Pairs,
    "lists": Lists,
    "mappings": Mappings,
    "a list of pairs": lambda: [Pairs()[i] for i in range(N)],
    "a subset": lambda: Subset(Pairs(), range(N)),
    "a subset of tensors": lambda: Subset(whole(), range(N)),
    "joined": lambda: ConcatDataset([Subset(Pairs(), range(8)), Subset(Pairs(), range(8, N))]),
    "a split": lambda: Subset(random_split(whole(), [N])[0].dataset, range(N)),
    "a batch in a list": lambda: list(arrays()),
    "a mapping of arrays": lambda: UserDict(zip(("input", "labels"), arrays(), strict=True)),
    "labels of one byte": lambda: (arrays()[0], arrays()[1].to(torch.uint8)),
    "labels of a signed byte": lambda: (arrays()[0], arrays()[1].to(torch.int8)),
    "labels of two bytes": lambda: (arrays()[0], arrays()[1].to(torch.int16)),
    "labels of four bytes": lambda: (arrays()[0], arrays()[1].int().numpy()),
}


def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))
    return {"a network": network.to(DOUBLE), "a linear model": nn.Linear(3, 3).to(DOUBLE)}


class ByName(nn.Module):
    """A model called by keyword."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.model(input)


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
@pytest.mark.parametrize("which", ["a network", "a linear model"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_form_is_the_same_data(which: str, source: str) -> None:
    model, given = models()[which], SOURCES[source]()
    inverse = uw.inverse.Dense(uw.curvature.GGN(), 0.1)
    expected = uw.Influence(uw.Objective(model, CE, arrays(), l2=0.1), inverse).attribute(arrays()).scores
    called = ByName(model) if source in ("mappings", "a mapping of arrays") else model
    objective = uw.Objective(called, CE, given, l2=0.1, batch_size=7)
    close(uw.Influence(objective, inverse).attribute(given).scores, expected, rtol=1e-6, atol=1e-9)
    assert uw.Influence(objective).attribute(given).scores.shape == (N, N)  # the automatic choice looks at the data too
    close(uw.Influence(objective, inverse).self_influence().scores, expected.diagonal(), rtol=1e-6, atol=1e-9)


def test_positions_without_a_length_are_refused_with_the_mend() -> None:
    with pytest.raises(InputError, match=r"data: Endless has positions but no length.*Subset"):
        uw.Objective(models()["a network"], CE, Endless())
