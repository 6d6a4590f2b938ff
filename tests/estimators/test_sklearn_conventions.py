"""`uw.sklearn.LabelErrors` keeps scikit-learn's conventions and is the task's own result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import check_estimator

import upweight as uw
from upweight.estimators import from_estimator
from upweight.sklearn import LabelErrors
from upweight.tasks import label_errors


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks() -> None:
    found = check_estimator(LabelErrors(), on_fail=None, on_skip=None)
    assert [each["check_name"] for each in found if each["status"] == "failed"] == []


def test_it_is_the_task_on_the_fitted_estimator() -> None:
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    names[3] = "c"
    estimator = LogisticRegression(tol=1e-8, max_iter=5000)
    finder = uw.sklearn.LabelErrors(estimator).fit(X, names)
    expected = label_errors(from_estimator(finder.estimator_, X, names))
    assert np.array_equal(finder.scores_, expected.attribution.scores.numpy())
    assert finder.order_[0] == 3
    assert finder.suggested_[3] == "a"
    assert finder.find()["position"].tolist() == [row for row in finder.order_ if finder.suspicious_[row]]
    assert len(finder.find(7)) == 7
    assert not hasattr(estimator, "coef_")  # it was cloned


def test_quantities_and_weights() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(80, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.1 * random.normal(size=80)
    y[11] += 5
    finder = LabelErrors().fit(X, y, sample_weight=np.ones(80))
    assert finder.find(1)["position"].tolist() == [11]
    assert finder.suspicious_[11]
    assert torch.is_tensor(finder.errors_.suggested)


def test_many_whole_numbers_are_a_quantity_and_it_is_said() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 3))
    y = np.round(100 * (X @ [1.0, -2.0, 0.5]))
    y[11] += 900
    with pytest.warns(uw.UpweightWarning, match=r"y: \d+ distinct numbers are taken as a quantity"):
        finder = LabelErrors().fit(X, y)
    assert finder.find(1)["position"].tolist() == [11]


@pytest.mark.parametrize("k", [-1, 0, 1.5])
def test_no_number_of_examples_is_refused(k: float) -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(uw.InputError, match=r"^k: "):
        LabelErrors().fit(X, y).find(k)  # type: ignore[arg-type]
