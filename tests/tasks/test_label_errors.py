"""Suspicious labels: the leave-one-out outputs against retraining, the ranking against planted errors."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from problems import minimised
from upweight import retraining
from upweight.errors import InputError
from upweight.influence import Influence
from upweight.tasks import explain, label_errors, predictions
from upweight.tasks.label_scores import METHODS, LabelScore, outputs_without
from upweight.tasks.own_effects import own_effects


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
@pytest.mark.parametrize("method", METHODS)
def test_planted_errors_are_first(binary: bool, method: LabelScore) -> None:
    objective, wrong = classes(binary)
    found = label_errors(objective, method=method)
    assert wrong[found.order[: wrong.sum()]].mean() >= 0.6  # a twelfth by chance
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
    with pytest.raises(InputError, match="one of 'out-of-sample', 'margin'"):
        label_errors(classes(binary=True)[0], method="guess")  # type: ignore[arg-type]


def test_explanation_ranks_both_sides() -> None:
    objective, _ = classes(binary=False)
    found = explain(objective, objective.data.take([0, 1]), 3, query_ids=["first", "second"])
    table = found.to_pandas()
    assert len(table) == 2 * 2 * 3
    assert set(table["query"]) == {"first", "second"}
    assert (table.loc[table["side"] == "helpful", "score"] > 0).all()
    assert (table.loc[table["side"] == "harmful", "score"] < 0).all()


def test_methods_share_their_effects() -> None:
    objective, _ = classes(binary=True)
    effects = own_effects(Influence(objective))
    for method in METHODS:
        alone, shared = (label_errors(subject, method=method) for subject in (objective, effects))
        torch.testing.assert_close(alone.attribution.scores, shared.attribution.scores, rtol=1e-8, atol=1e-10)


def test_relative_self_influence_is_per_length_of_the_step() -> None:
    objective, _ = classes(binary=False)
    influence = Influence(objective)
    steps = influence.parameters(range(objective.n)).norm(dim=1)
    expected = influence.self_influence().scores * objective.n / steps
    torch.testing.assert_close(label_errors(objective, method="relative").attribution.scores, expected)


def test_networks_are_asked_without_each_example_through_the_rows() -> None:
    objective, wrong = classes(binary=False)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3)).double()
    network = minimised(objective.replace(model=net, parameters=None))
    found = label_errors(Influence(network, uw.inverse.Dual(damping=1e-3)))
    assert wrong[found.order[: wrong.sum()]].mean() >= 0.8
    # Without the example the model says what it is; with it, it had been talked into the wrong label more often.
    assert found.predictions.wrong.sum() >= predictions(network).wrong.sum()


@pytest.mark.parametrize("binary", [True, False])
def test_other_outputs_are_as_many_as_the_models(binary: bool) -> None:
    objective, _ = classes(binary, 30)
    width = 1 if binary else 3
    for shape in ((7, width), (31, width), (30, width + 1), (30, width, 2), ()):
        wanted = rf"outputs: got shape {re.escape(str(shape))}; give 30 rows, one for each example, of {width} number"
        with pytest.raises(InputError, match=wanted):
            predictions(objective, outputs=torch.randn(shape))
    with pytest.raises(InputError, match=r"outputs: got shape .*; give 2 rows"):
        predictions(objective, objective.data.take([3, 4]), objective.outputs())
    own, given = predictions(objective), predictions(objective, outputs=objective.outputs().reshape(30, width))
    assert torch.equal(own.predicted, given.predicted)
    assert torch.equal(own.losses, given.losses)


def test_the_queue_names_what_contradicts() -> None:
    objective, _ = classes(binary=True)
    queue = label_errors(objective, class_names=["cat", "dog"]).queue(5, examples=2)
    assert list(queue["rank"]) == [1, 2, 3, 4, 5]
    for row in queue.to_dict("records"):
        assert row["evidence"].count(f"({row['suggested']})") == 2


def test_recovery_counts_what_is_found() -> None:
    objective, wrong = classes(binary=True)
    found = label_errors(objective)
    share = found.recovery(wrong, [0.1, 1.0])
    assert share[0] == pytest.approx(wrong[found.order[:12]].sum() / wrong.sum())
    assert share[1] == 1


def test_labels_of_one_class_are_refused() -> None:
    objective, _ = classes(binary=True)
    x, given = objective.data.take(range(objective.n))
    with pytest.raises(InputError, match="labels of one class can't contradict"):
        label_errors(objective.replace(data=(x, torch.zeros_like(given))))
