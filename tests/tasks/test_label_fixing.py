"""Fixing labels: counts and accuracies against doing it by hand, one model at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import upweight as uw
from upweight import retraining
from upweight.errors import InputError
from upweight.tasks import fix_and_retrain, label_errors


def flipped(n: int = 80) -> tuple[uw.Objective, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Two classes with a tenth of the labels wrong; true labels; a test set."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n + 200, 5, generator=generator, dtype=torch.float64)
    truth = (x.sum(1) > 0).long()
    given = truth.clone()
    given[torch.arange(n + 200) % 10 == 3] ^= 1
    model = nn.Linear(5, 1, dtype=torch.float64)
    objective = uw.Objective(model, uw.losses.BinaryLogistic(), (x[:n], given[:n]), l2=1e-3)
    return retraining.fit(objective), truth[:n], (x[n:], truth[n:])


def accuracy(objective: uw.Objective, test: tuple[torch.Tensor, torch.Tensor]) -> float:
    return float(((objective.outputs(test)[:, 0] > 0).long() == test[1]).double().mean())


@pytest.mark.parametrize("together", [True, False])
def test_accuracies_are_those_of_models_trained_on_fixed_labels(together: bool) -> None:
    objective, truth, test = flipped()
    orders = {"found": label_errors(objective).order, "backwards": np.arange(80)[::-1].copy()}
    options = {} if together else {"train": retraining.fit}
    result = fix_and_retrain(objective, orders, truth, test, fractions=(0.1, 0.25), **options)  # type: ignore[arg-type]
    x, given = objective.data.take(range(80))
    wrong = (given != truth).numpy()
    assert (result.wrong == wrong).all()
    for name, order in orders.items():
        for column, count in enumerate((8, 20)):
            fixed = given.clone()
            fixed[order[:count].copy()] = truth[order[:count].copy()]
            by_hand = retraining.fit(objective.replace(data=(x, fixed)))
            assert result.accuracy[name][column] == accuracy(by_hand, test)
            assert result.found[name][column] == wrong[order[:count]].sum() / wrong.sum()
    assert result.accuracy_before == accuracy(objective, test)
    assert result.accuracy_clean == accuracy(retraining.fit(objective.replace(data=(x, truth))), test)
    assert len(result.to_pandas()) == 4
    assert max(map(len, repr(result).splitlines())) <= 100
    assert result.figure().axes


def test_what_finds_nothing_changes_nothing() -> None:
    objective, truth, test = flipped()
    _, given = objective.data.take(range(80))
    right = np.flatnonzero((given == truth).numpy())
    result = fix_and_retrain(objective, {"only right ones": right}, truth, test, fractions=(0.1,))
    assert result.found["only right ones"] == [0.0]
    assert result.accuracy["only right ones"] == [result.accuracy_before]


def test_the_model_and_its_data_stay_as_they_were() -> None:
    objective, truth, test = flipped()
    before = objective.params.clone(), objective.data.take(range(80))[1].clone()
    fix_and_retrain(objective, {"all": np.arange(80)}, truth, test, fractions=(0.5,), train=retraining.fit)
    assert torch.equal(objective.params, before[0])
    assert torch.equal(objective.data.take(range(80))[1], before[1])


def test_a_training_that_ends_the_program_ends_itself_alone() -> None:
    objective, truth, test = flipped()

    def train(changed: uw.Objective) -> uw.Objective:
        raise SystemExit(3)

    with pytest.raises(retraining.TrainingFailedError, match=r"sys\.exit\(3\)"):
        fix_and_retrain(objective, {"all": np.arange(80)}, truth, test, fractions=(0.5,), train=train)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orders": {"short": np.arange(4)}}, "checking 30% takes 24"),
        ({"orders": {"twice": np.zeros(80)}}, "checked 80 times"),
        ({"fractions": (0.5, 0.1)}, "increasing shares"),
        ({"true_labels": torch.zeros(3)}, "as the targets are"),
    ],
)
def test_bad_input_is_refused(changes: dict[str, object], message: str) -> None:
    objective, truth, test = flipped()
    arguments = {"orders": {"all": np.arange(80)}, "true_labels": truth, "test": test, **changes}
    with pytest.raises(InputError, match=message):
        fix_and_retrain(objective, **arguments)  # type: ignore[arg-type]


def test_labels_without_an_error_are_refused() -> None:
    objective, _, test = flipped()
    with pytest.raises(InputError, match="nothing to find"):
        fix_and_retrain(objective, {"all": np.arange(80)}, objective.data.take(range(80))[1], test)
