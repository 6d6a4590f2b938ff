"""What is unlike the usual but works is taken, with a word where it is doubtful."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import upweight as uw
from bad_calls.case import attribution, influence, linear, made, objective, queries, softmax, solved, x, y
from upweight.errors import UpweightWarning
from upweight.inverse import CG, LiSSA

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.parametrize(
    "call",
    [
        lambda: made(l2=np.float32(0.01)),
        lambda: made(l2=torch.tensor(0.01)),
        lambda: made(batch_size=np.int64(4)),
        lambda: influence().plan(np.int32(3)),
        lambda: attribution().top(np.int64(2)),
        lambda: influence().attribute(queries(), renormalize=np.bool_(True)),
        lambda: influence().attribute(queries(), train=np.array([True] * 3 + [False] * (objective().n - 3))),
        lambda: solved(CG(damping=np.float32(0.1), tolerance=np.float64(1e-6))),
        lambda: solved(LiSSA(seed=np.int64(3), depth=np.int64(2000), damping=0.1)),
    ],
)
def test_numbers_of_numpy_and_torch_are_numbers(call: Callable[[], Any]) -> None:
    call()


def test_columns_of_a_table_are_taken_by_their_order_whatever_their_index() -> None:
    rows = pd.Series([3, 1], index=[7, 5])
    assert objective().positions(rows).tolist() == [3, 1]
    assert objective().positions(pd.Series(np.arange(24) == 4, index=range(50, 74))).tolist() == [4]
    assert objective().positions(np.array([1, 3])[::-1]).tolist() == [3, 1]
    assert objective().positions(np.array([3, 1], dtype=">i8")).tolist() == [3, 1]
    assert influence().group(rows, queries()).scores.shape == (3, 1)
    found = influence().relabel(rows, pd.Series([0, 2], index=[1, 0]), queries()).scores
    assert torch.equal(found, influence().relabel([3, 1], [0, 2], queries()).scores)
    assert made(weights=pd.Series(np.arange(24.0), index=range(24, 0, -1))).weights.tolist() == list(range(24))


def test_lists_of_floats_keep_their_precision() -> None:
    assert uw.evaluation.agreement([1e-50, 2e-50, 3e-50], [1, 2, 3]).pearson == pytest.approx(1)
    regression = uw.Influence(
        uw.retraining.fit(uw.Objective(nn.Linear(3, 1).double(), uw.losses.SquaredError(), (x(), x()[:, :1]), l2=1))
    )
    asked = x()[:2], x()[:2, :1]
    found = regression.relabel([1], [[0.1]], asked).scores
    assert torch.equal(found, regression.relabel([1], torch.tensor([[0.1]], dtype=found.dtype), asked).scores)


def test_what_is_unlike_but_works_is_taken() -> None:
    """Log-probabilities under cross-entropy, sequences of another length, one-hot outputs passed on."""
    logs = nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(-1)).double()
    assert linear(x(), y(), model=logs).n == 24
    model = nn.Sequential(nn.Embedding(5, 4), nn.AdaptiveAvgPool2d((1, 4)), nn.Flatten(), nn.Linear(4, 3))
    sequences = uw.Objective(model, uw.losses.CrossEntropy(), (torch.randint(5, (6, 7)), torch.arange(6) % 3))
    assert sequences.losses((torch.randint(5, (2, 9)), torch.arange(2))).shape == (2,)


def test_other_data_takes_no_weights_and_names_that_nobody_gave() -> None:
    smaller = objective().replace(data=queries())
    assert (smaller.n, smaller.ids.tolist(), smaller.weights.tolist()) == (3, [0, 1, 2], [1.0, 1.0, 1.0])
    named = made(ids=[f"row {k}" for k in range(24)]).replace(data=(x() + 0, y()))
    assert named.ids[0] == "row 0"


def test_a_copy_collates_as_the_objective_does() -> None:
    examples = [{"x": row, "y": label} for row, label in zip(x(), y(), strict=True)]

    def collate(batch: list[Any]) -> Any:
        return torch.stack([each["x"] for each in batch]), torch.stack([each["y"] for each in batch])

    given = uw.Objective(softmax().model, uw.losses.CrossEntropy(), examples, collate=collate)
    assert given.replace(data=examples[:5]).losses().shape == (5,)
    assert given.to(torch.float32).losses().shape == (24,)


def test_some_ignored_queries_are_said_and_scored_as_nothing() -> None:
    some = x()[:3], torch.tensor([0, -100, 1])
    with pytest.warns(UpweightWarning, match=r"queries: 1 of 3 \(first at position 1\) have no target but -100"):
        scores = influence().attribute(some).scores
    assert scores.abs().sum(1).bool().tolist() == [True, False, True]


@pytest.mark.parametrize(
    "flat",
    [
        lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none").round(),
        lambda model, batch: (model(batch[0]) * 0).sum(1) + 1,
    ],
)
def test_a_loss_that_nothing_moves_is_said(flat: Any) -> None:
    with pytest.warns(UpweightWarning, match="the gradients of all 24 training examples are 0 at θ, so every score is"):
        linear(x(), y(), loss=flat).stationarity()


def test_a_measurement_without_a_gradient_can_be_measured() -> None:
    values = influence().measure(queries(), lambda model, batch: model(batch[0]).detach()[:, 0])
    assert values.shape == (3,)
