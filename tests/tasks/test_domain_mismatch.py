"""Domain mismatch: the planted members stand out, the figures are those of the plain formulas, bad input is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from problems import minimised
from upweight import retraining
from upweight.errors import InputError
from upweight.tasks import DomainMismatch, GroupFeatures, domain_mismatch
from upweight.tasks.concentration import concentration

FEW = 5
Examples = tuple[torch.Tensor, torch.Tensor]


def problem() -> tuple[uw.Objective, np.ndarray, Examples, np.ndarray]:
    """Two classes by one feature; a second one marks a group of five, whose labels in training are all of one class."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    x[:, 3] = 0
    x[:FEW, 3] = 1
    y = (x[:, 0] + 0.5 * x[:, 1] > 0).long()
    x[:FEW, 0] = -1  # by that alone they would be of class 0
    x[:FEW, 1:3] *= 0.3
    y[:FEW] = 1
    objective = uw.Objective(nn.Linear(4, 1, dtype=torch.float64), uw.losses.BinaryLogistic(), (x, y), l2=1e-3)
    queries = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    queries[:, 3] = (torch.arange(60) < 20).double()
    labels = (queries[:, 0] + 0.5 * queries[:, 1] > 0).long()
    return retraining.fit(objective), np.arange(300) < FEW, (queries, labels), np.arange(60) < 20


def explained(**options: object) -> DomainMismatch:
    objective, members, data, group = problem()
    return domain_mismatch(objective, data, train_group=members, **{"group": group, **options})


def test_the_members_are_the_most_influential_and_harmful() -> None:
    found = explained(name="marked", features=GroupFeatures(positions=[3], names=["a", "b", "c", "mark"]))
    assert found.concentration.ranks[:4] == (1, 2, 3, 4)
    assert found.concentration.strongest > 2
    table = found.top(4)
    assert table["in_group"].all()
    assert set(table["says"]) == {"harmful"}
    assert found.coefficients is not None
    assert found.coefficients.feature == "mark"
    assert found.coefficients.of == 4
    assert "marked" in repr(found)
    assert max(map(len, repr(found).splitlines()[-FEW:])) <= 80


def test_queries_are_the_wrong_predictions_of_the_group() -> None:
    objective, members, (x, y), group = problem()
    found = domain_mismatch(objective, (x, y), train_group=members, group=group)
    wrong = (objective.outputs((x, y))[:, 0] > 0).long() != y
    assert found.queries.tolist() == np.flatnonzero(wrong.numpy() & group).tolist()
    assert found.attribution.query_ids.tolist() == found.queries.tolist()
    mean = uw.Influence(objective).attribute((x[found.queries], y[found.queries])).scores.mean(0)
    np.testing.assert_allclose(found.influence, mean.numpy())
    assert len(found.by_query()) == len(found.queries)


def test_given_queries_are_explained_as_they_are() -> None:
    objective, members, (x, y), _ = problem()
    found = domain_mismatch(objective, (x[20:23], y[20:23]), train_group=members, ids=["p", "q", "r"])
    assert found.by_query()["query"].tolist() == ["p", "q", "r"]
    assert found.concentration.strongest < explained().concentration.strongest


def test_leaving_the_members_out_mends_the_predictions() -> None:
    objective, members, (x, y), group = problem()
    found = domain_mismatch(objective, (x, y), train_group=members, group=group)
    model = retraining.leave_out(objective, [np.flatnonzero(members)]).params[0]
    queries = (x[found.queries], y[found.queries])
    assert float(objective.losses(queries, model).mean()) < 0.5 * float(objective.losses(queries).mean())


def test_concentration_in_figures() -> None:
    influence = np.array([4.0, -1.0, 0.5, -2.0])
    found = concentration(influence, np.array([True, False, True, False]))
    assert (found.strongest, found.mean, found.weakest) == (2.0, 1.125, 0.25)
    assert found.share == 4.5 / 7.5
    assert found.expected_share == 0.5
    assert found.ranks == (1, 4)


def test_any_objective_will_do() -> None:
    objective, members, data, _ = problem()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    network = minimised(uw.Objective(net, uw.losses.CrossEntropy(), objective.data, l2=1e-2))
    found = domain_mismatch(network, data, train_group=members)
    assert found.attribution.scores.shape == (60, 300)
    with pytest.raises(InputError, match="don't belong to single inputs"):
        domain_mismatch(network, data, train_group=members, features=GroupFeatures(positions=[3]))


def test_a_column_of_a_table_is_a_group() -> None:
    import pandas as pd

    objective, members, data, group = problem()
    given = domain_mismatch(objective, data, train_group=pd.Series(members), group=pd.Series(group))
    np.testing.assert_array_equal(given.group, members)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_group": np.zeros(300, bool)}, "none of the 300 training examples belongs to the group"),
        ({"train_group": np.ones(300, bool)}, "all 300 training examples belong to the group"),
        ({"train_group": np.ones(7, bool)}, "True or False for each of the 300"),
        ({"group": np.zeros(60, bool)}, "none of the 60 examples of data belongs to the group"),
        ({"group": np.ones(3, bool)}, "True or False for each of the 60"),
        ({"features": GroupFeatures(positions=[9])}, "positions: positions must be in 0"),
        ({"features": GroupFeatures(positions=[0, 0])}, "positions: 0 is named 2 times"),
        ({"features": GroupFeatures(positions=[3], names=["a"])}, "names: need 4, one for each input"),
        ({"features": [3]}, r"features: give tasks.GroupFeatures\(positions=\[…\]\), or None; got \[3\]"),
        ({"ids": [1, 2]}, "need 60, one for each of data"),
    ],
)
def test_bad_input_is_refused(options: dict[str, object], message: str) -> None:
    objective, members, data, group = problem()
    arguments = {"train_group": members, "group": group, **options}
    with pytest.raises(InputError, match=message):
        domain_mismatch(objective, data, **arguments)  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": []}, "positions: .*give at least one value"),
        ({"positions": 3}, "positions: give a list; got 3"),
        ({"positions": ["age"]}, "positions: "),
        ({"positions": [3], "names": 4}, "names: give a list, or None; got 4"),
    ],
)
def test_group_features_are_refused_when_they_are_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GroupFeatures(**options)


def test_a_group_that_the_model_has_right_is_refused_with_the_mend() -> None:
    objective, members, data, group = problem()
    right = group & ~np.isin(np.arange(60), domain_mismatch(objective, data, train_group=members, group=group).queries)
    with pytest.raises(InputError, match="give these examples alone, without group"):
        domain_mismatch(objective, data, train_group=members, group=right)


def test_labels_of_one_class_are_refused() -> None:
    objective, members, data, group = problem()
    x, y = objective.data.take(range(300))
    single = objective.replace(data=(x, torch.ones_like(y)))
    with pytest.raises(InputError, match="labels are of class 1"):
        domain_mismatch(single, data, train_group=members, group=group)
