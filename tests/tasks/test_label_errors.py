"""Suspicious labels: the leave-one-out outputs against retraining, the ranking against planted errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from upweight import retraining
from upweight.influence import Influence
from upweight.messages import InputError
from upweight.tasks import explain, label_errors, predictions
from upweight.tasks.label_errors import outputs_without


def classes(binary: bool, n: int = 120) -> tuple[uw.Objective, np.ndarray]:
    """Gaussian classes with every twelfth label wrong, at the optimum."""
    generator = torch.Generator().manual_seed(0)
    count = 2 if binary else 3
    true = torch.arange(n) % count
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    x[torch.arange(n), true] += 5
    wrong = torch.arange(n) % 12 == 5
    given = torch.where(wrong, (true + 1) % count, true)
    loss = uw.losses.BinaryLogistic() if binary else uw.losses.CrossEntropy()
    model = nn.Linear(4, 1 if binary else count, dtype=torch.float64)
    return retraining.fit(uw.Objective(model, loss, (x, given), l2=0.01)), wrong.numpy()


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_without_an_example_are_those_of_retraining(binary: bool) -> None:
    objective, _ = classes(binary)
    some = list(range(0, 120, 7))
    models = retraining.leave_out(objective, some)
    now = objective.outputs()[some]
    actual = torch.cat(
        [objective.at(theta).outputs(objective.data.take([i])) for i, theta in zip(some, models.params, strict=True)]
    )
    predicted = outputs_without(Influence(objective))[some]
    # One Newton step leaves little of the distance.
    assert float((predicted - actual).norm()) < 0.05 * float((now - actual).norm())


def test_outputs_without_are_exact_for_squared_error() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(30, k, generator=generator, dtype=torch.float64) for k in (3, 1))
    objective = retraining.fit(uw.Objective(nn.Linear(3, 1).double(), uw.losses.SquaredError(), (x, y), l2=0.1))
    models = retraining.leave_out(objective, list(range(30)))
    actual = torch.cat([objective.at(models.params[i]).outputs(objective.data.take([i])) for i in range(30)])
    torch.testing.assert_close(outputs_without(Influence(objective)), actual, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("method", [None, "out-of-sample", "self-influence", "loss"])
def test_planted_errors_are_first(binary: bool, method: str | None) -> None:
    objective, wrong = classes(binary)
    found = label_errors(objective, method=method)  # type: ignore[arg-type]
    assert wrong[found.order[: wrong.sum()]].mean() >= 0.8
    table = found.top(3)
    assert list(table["rank"]) == [1, 2, 3]
    assert (table["given"] != table["suggested"]).all()
    assert table["score"].is_monotonic_decreasing
    assert found.method in repr(found)


def test_evidence_contradicts_the_label() -> None:
    objective, _ = classes(binary=False)
    found = label_errors(objective)
    evidence = found.evidence(k=4, examples=2)
    given = predictions(objective).given.numpy()
    for row, position in enumerate(found.order[:4]):
        assert (evidence.scores[row] < 0).all()
        assert (given[evidence.positions[row].numpy()] != given[position]).all()


def test_names_of_classes_are_shown() -> None:
    objective, _ = classes(binary=True)
    table = label_errors(objective, class_names=["cat", "dog"]).to_pandas()
    assert set(table["given"]) == {"cat", "dog"}
    assert len(table) == objective.n


def test_targets_of_plus_and_minus_one_are_classes() -> None:
    objective, _ = classes(binary=True)
    x, given = objective.data.take(range(objective.n))
    signed = objective.replace(data=(x, 2 * given - 1))
    assert (label_errors(signed).order == label_errors(objective).order).all()


def test_what_is_no_classification_is_refused() -> None:
    x, y = torch.randn(10, 2), torch.randn(10, 1)
    objective = uw.Objective(nn.Linear(2, 1), uw.losses.SquaredError(), (x, y), l2=1.0)
    with pytest.raises(InputError, match="which class is predicted"):
        label_errors(objective)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="'out-of-sample', 'self-influence' or 'loss'"):
        label_errors(classes(binary=True)[0], method="guess")  # type: ignore[arg-type]


def test_explanation_ranks_both_sides() -> None:
    objective, _ = classes(binary=False)
    found = explain(objective, objective.data.take([0, 1]), 3, query_ids=["first", "second"])
    table = found.to_pandas()
    assert len(table) == 2 * 2 * 3
    assert set(table["query"]) == {"first", "second"}
    assert (table.loc[table["side"] == "helpful", "score"] > 0).all()
    assert (table.loc[table["side"] == "harmful", "score"] < 0).all()
