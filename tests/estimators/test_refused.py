"""Every estimator of scikit-learn is mapped, or its refusal says what to do instead."""

import warnings
from inspect import signature

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import ARDRegression, BayesianRidge, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils import all_estimators

from upweight.estimators import from_estimator
from upweight.estimators.convert import mappings
from upweight.messages import InputError

NEEDED = {"estimator": Ridge(), "param_grid": {"alpha": [1.0]}, "param_distributions": {"alpha": [1.0]}}
MENDS = ("fit ", "give ", "look at ", "explain ", "write ", "its support_")


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("kind", [kind for _, kind in all_estimators() if kind not in mappings()])
def test_a_refusal_says_what_to_do(kind, problem):
    if kind is TransformedTargetRegressor:
        pytest.skip("is mapped by what it holds")
    needed = [name for name, given in signature(kind).parameters.items() if given.default is given.empty]
    estimator = kind(**{name: NEEDED.get(name, [("a", Ridge())]) for name in needed})
    if kind.__name__ == "Pipeline":
        pytest.skip("is mapped by its last step")
    with pytest.raises(InputError, match=f"^estimator: {kind.__name__} has no objective here: ") as raised:
        from_estimator(estimator, problem.X, problem.two)
    assert any(words in str(raised.value) for words in MENDS)


def test_every_mapped_estimator_refuses_to_be_unfitted(problem):
    for kind in mappings():
        with pytest.raises(InputError, match=f"{kind.__name__} is not fitted"):
            from_estimator(kind(), problem.X, problem.two)
        with pytest.raises(InputError, match=rf"{kind.__name__} is a class, not a fitted instance; give"):
            from_estimator(kind, problem.X, problem.two)
    with pytest.raises(InputError, match="TransformedTargetRegressor is not fitted"):
        from_estimator(TransformedTargetRegressor(Ridge()), problem.X, problem.number)


@pytest.mark.parametrize("thing", [None, "lr", np.ones(3), 3])
def test_what_is_no_estimator_is_refused(thing, problem):
    with pytest.raises(InputError, match=f"^estimator: {type(thing).__name__} has no objective here: "):
        from_estimator(thing, problem.X, problem.two)


def refusal(estimator, X, y):
    with pytest.raises(InputError) as raised:
        from_estimator(estimator, X, y)
    return str(raised.value)


def test_the_estimators_held_are_named_where_they_may_be_mapped(problem):
    one_against_rest = OneVsRestClassifier(LogisticRegression()).fit(problem.X, problem.three)
    assert "give each of its estimators_" in refusal(one_against_rest, problem.X, problem.three)
    # And that can be done.
    labels = one_against_rest.label_binarizer_.transform(problem.three).toarray()
    for k, machine in enumerate(one_against_rest.estimators_):
        assert from_estimator(machine, problem.X, labels[:, k]).n == 60
    both = np.column_stack([problem.number, problem.X[:, 0]])
    several = MultiOutputRegressor(Ridge()).fit(problem.X, both)
    assert "with the column of y" in refusal(several, problem.X, both)
    for k, machine in enumerate(several.estimators_):
        assert from_estimator(machine, problem.X, both[:, k]).n == 60
    voting = VotingClassifier([("a", LogisticRegression())]).fit(problem.X, problem.two)
    assert "give each of its estimators_" in refusal(voting, problem.X, problem.two)
    forest = RandomForestClassifier(3).fit(problem.X, problem.two)
    assert "trees have no derivatives" in refusal(forest, problem.X, problem.two)


def test_bayesian_ridges_are_the_ridges_they_are_said_to_be(problem):
    bayesian = BayesianRidge().fit(problem.X, problem.number)
    ridge = Ridge(alpha=bayesian.lambda_ / bayesian.alpha_).fit(problem.X, problem.number)
    np.testing.assert_allclose(ridge.coef_, bayesian.coef_, rtol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        relevance = ARDRegression(tol=1e-8, max_iter=10_000).fit(problem.X, problem.number)
    kept = relevance.lambda_ < relevance.threshold_lambda
    scaled = Ridge(alpha=1 / relevance.alpha_).fit(problem.X[:, kept] / relevance.lambda_[kept] ** 0.5, problem.number)
    np.testing.assert_allclose(scaled.coef_ / relevance.lambda_[kept] ** 0.5, relevance.coef_[kept], rtol=1e-3)
