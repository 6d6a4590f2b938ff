"""A DataLoader as training data, wrapped models, losses by token, and columns that are shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import upweight as uw
from upweight.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:θ is not at an optimum")

N = 12
X, Y = torch.randn(N, 4, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 3


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def made(data: Any, model: nn.Module | None = None, **options: Any) -> uw.Objective:
    torch.manual_seed(0)
    return uw.Objective(network() if model is None else model, uw.losses.CrossEntropy(), data, **options)


class Pairs(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, place: int) -> Any:
        return X[place], Y[place]


def named(examples: list[Any]) -> dict[str, Tensor]:
    return {"input": torch.stack([x for x, _ in examples]), "labels": torch.stack([y for _, y in examples])}


@pytest.mark.parametrize("dataset", [TensorDataset(X, Y), Pairs()])
def test_a_loader_is_its_dataset_in_order(dataset: Any) -> None:
    expected = made((X, Y))
    loader = DataLoader(dataset, batch_size=5, shuffle=True, drop_last=True)
    objective = made(loader)
    assert (objective.n, objective.batch_size) == (N, 5)
    assert torch.allclose(objective.losses(), expected.losses())
    assert [words.partition(" (")[0] for words in objective.notes] == [
        "the order of examples",
        "drop_last leaves examples out of epochs, 2 of 12 an epoch; all are taken as trained on",
    ]
    assert torch.allclose(objective.losses(loader), expected.losses())
    assert made(loader, batch_size=4).batch_size == 4


def test_it_collates_as_it_did() -> None:
    objective = made(DataLoader(TensorDataset(X, Y), batch_size=4, collate_fn=named))
    assert set(objective.data.take([0])) == {"input", "labels"}
    assert torch.allclose(objective.losses(), made((X, Y)).losses())
    assert torch.allclose(objective.losses(Pairs()), made((X, Y)).losses())


def test_samplers_that_draw_from_some_or_by_weight() -> None:
    some = made(DataLoader(Pairs(), sampler=SubsetRandomSampler([7, 2, 5])))
    assert torch.allclose(some.losses(), made((X, Y)).losses()[[2, 5, 7]])
    assert "draws from 3 of 12 examples" in some.notes[0]
    drawn = torch.arange(1.0, N + 1)
    weighted = made(DataLoader(Pairs(), sampler=WeightedRandomSampler(drawn, N)))
    assert torch.allclose(weighted.weights, drawn / drawn.mean())
    assert "by weight" in weighted.notes[0]
    own = made(DataLoader(Pairs(), batch_sampler=Batched(RandomSampler(Pairs()), 3, False)))
    assert "Batched is taken to go through all examples equally often" in own.notes[0]


class Batched(BatchSampler):
    """Of somebody's own."""


def test_wrappers_are_seen_through() -> None:
    model = network()
    parallel = torch.compile(nn.DataParallel(model), backend="eager")
    expected = made((X, Y), model, l2={"0.*": 0.1}, parameters=["0.*", "2.weight"])
    names = {"l2": {"_orig_mod.module.0.*": 0.1}, "parameters": ["_orig_mod.module.0.*", "_orig_mod.module.2.weight"]}
    for options in (names, {"l2": {"0.*": 0.1}, "parameters": ["0.*", model[2].weight]}):
        objective = made((X, Y), parallel, **options)
        assert type(objective.model) is nn.Sequential
        assert objective.layout == expected.layout
        assert torch.equal(objective.l2, expected.l2)
        assert torch.allclose(objective.gradient(), expected.gradient())
    assert made((X, Y), parallel, parameters=parallel).p == 43
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1, weight_decay=0.01)
    assert uw.l2_of(optimizer, parallel)["0.weight"] == 0.01
    traced = uw.TracIn(made((X, Y), parallel), [parallel, parallel.state_dict()][:1], 0.1)
    assert traced.attribute((X[:1], Y[:1])).scores.shape == (1, N)
    prefixed = uw.TracIn(made((X, Y), parallel), [parallel.state_dict()], 0.1)
    assert torch.equal(prefixed.attribute((X[:1], Y[:1])).scores, traced.attribute((X[:1], Y[:1])).scores)


@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")  # of the norm
def test_models_that_compile_themselves_and_parametrised_ones() -> None:
    model = network()
    expected = made((X, Y), model).gradient()
    model.compile(backend="eager")
    assert torch.allclose(made((X, Y), model).gradient(), expected)
    normed = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3))
    objective = made((X, Y), normed)
    F.cross_entropy(normed(X), Y).backward()
    names = dict(normed.named_parameters())
    by_hand = torch.cat([names[name].grad.reshape(-1) for name in objective.layout.names])
    assert torch.allclose(objective.gradient(), by_hand, atol=1e-6)


def test_a_loss_by_token_is_summed_and_one_of_all_pairs_refused() -> None:
    model, x, y = nn.Linear(4, 3), torch.randn(6, 5, 4), torch.arange(30).reshape(6, 5) % 3

    def by_token(module: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(module(batch[0]).transpose(1, 2), batch[1], reduction="none")

    objective = uw.Objective(model, by_token, (x, y))
    assert torch.allclose(objective.losses(), by_token(model, (x, y)).detach().sum(1))
    assert isinstance(objective.loss, uw.losses.CrossEntropy)
    with pytest.raises(InputError, match="outputs of all examples seem to be compared with targets of all"):
        uw.Objective(nn.Linear(4, 1), lambda module, batch: (module(batch[0]) - batch[1]) ** 2, (X, Y))


def test_columns_are_shown_beside_scores_and_go_with_their_examples() -> None:
    texts = [f"text {i}" for i in range(N)]
    objective = made((X, Y), columns={"text": texts, "number": np.arange(N)}, notes=["as it was"])
    attribution = uw.Influence(objective, uw.inverse.Identity()).attribute((X[:2], Y[:2]))
    table = attribution.top(3).to_pandas(objective.columns)
    assert list(table.columns) == ["query", "rank", "id", "position", "score", "text", "number"]
    assert table["text"].tolist() == [texts[place] for place in table["position"]]
    assert objective.replace(l2=0.1).columns["text"] == texts
    assert objective.to(torch.float64).notes == ("as it was",)
    fewer = objective.replace(data=(X[:5], Y[:5]))
    assert (dict(fewer.columns), fewer.notes) == ({}, ())
    frame = made((X, Y), columns=pd.DataFrame({"text": texts}))
    assert list(frame.columns["text"]) == texts


def test_columns_that_don_t_fit_are_refused() -> None:
    objective = made((X, Y))
    attribution = uw.Influence(objective, uw.inverse.Identity()).attribute((X[:2], Y[:2]), train=[1, 2, 3])
    with pytest.raises(InputError, match=r"columns: 'text' has 12 values, and 3 examples were scored"):
        attribution.top(2).to_pandas({"text": ["a"] * N})
    with pytest.raises(InputError, match="columns: 'score' is a column of every ranking"):
        attribution.top(2).to_pandas({"score": ["a"] * 3})
    with pytest.raises(InputError, match="columns: 'text' needs one value for each of 12 training examples; got 2"):
        made((X, Y), columns={"text": ["a", "b"]})
    with pytest.raises(InputError, match="columns: 'text' needs a list of values"):
        made((X, Y), columns={"text": "abc"})
