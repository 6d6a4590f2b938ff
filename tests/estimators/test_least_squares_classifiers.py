"""A ridge on ±1 is what RidgeClassifier minimises."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV

import upweight as uw
from upweight.estimators import from_estimator, prepare


@pytest.mark.parametrize("weight", [None, "balanced", "own"])
@pytest.mark.parametrize("classes", ["two", "three"])
@pytest.mark.parametrize("kind", [RidgeClassifier, RidgeClassifierCV])
def test_gradient_vanishes_at_the_coefficients(problem, kind, classes, weight):
    y = getattr(problem, classes)
    weight = {label: 1.0 + k for k, label in enumerate(np.unique(y).tolist())} if weight == "own" else weight
    estimator = kind(class_weight=weight).fit(problem.X, y, sample_weight=problem.weights)
    objective = from_estimator(estimator, problem.X, y, sample_weight=problem.weights)
    assert objective.gradient().abs().max() < 1e-12
    queries = prepare(estimator, problem.new)
    np.testing.assert_allclose(
        objective.outputs((queries[0], np.zeros(7, dtype=int))).squeeze(),
        estimator.decision_function(problem.new),
        rtol=1e-9,
        atol=1e-12,
    )
    assert objective.class_names == tuple(map(str, estimator.classes_.tolist()))


def test_leaving_one_out_is_exact_at_first_order_in_its_weight(problem):
    """Removal against refits with a thousandth of a weight taken away."""
    X, y, weights = problem.X, problem.three, problem.weights
    estimator = RidgeClassifier(alpha=2.0).fit(X, y, sample_weight=weights)
    objective = from_estimator(estimator, X, y, sample_weight=weights)
    queries = prepare(estimator, X[:3], y[:3])
    scores = uw.Influence(objective).attribute(queries).scores
    for i in (0, 17, 43):
        changed = weights.copy()
        changed[i] *= 1 - 1e-4
        other = RidgeClassifier(alpha=2.0).fit(X, y, sample_weight=changed)
        moved = from_estimator(other, X, y, sample_weight=changed).losses(queries) - objective.losses(queries)
        np.testing.assert_allclose(moved / 1e-4, scores[:, i], rtol=2e-3, atol=1e-9)
