"""Every estimator of scikit-learn is mapped, or its refusal says what to do instead."""

import warnings
from inspect import signature

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import ARDRegression, BayesianRidge, LogisticRegression, Ridge, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

from upweight.errors import InputError
from upweight.estimators import from_estimator
from upweight.estimators.convert import mappings

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


def test_a_bag_of_what_is_mapped_says_how_to_give_its_members(problem):
    options = {"max_samples": 0.8, "max_features": 3, "n_estimators": 3, "random_state": 0}
    for bag, y in (
        (BaggingClassifier(LogisticRegression(tol=1e-8), **options), problem.two),
        (BaggingRegressor(Ridge(), **options), problem.number),
    ):
        bag.fit(problem.X, y)
        assert "give one of its fitted estimators_[i], on the rows estimators_samples_[i]" in refusal(bag, problem.X, y)
        # And that can be done.
        given = np.searchsorted(bag.classes_, y) if hasattr(bag, "classes_") else y
        for member, rows, columns in zip(
            bag.estimators_, bag.estimators_samples_, bag.estimators_features_, strict=True
        ):
            assert from_estimator(member, problem.X[rows][:, columns], given[rows]).p == 4
        unfitted = type(bag)(bag.estimator)
        assert "estimators_[i]" in refusal(unfitted, problem.X, y)


@pytest.mark.parametrize("kind", [BaggingClassifier, AdaBoostClassifier])
def test_bags_and_boosts_of_trees_are_told_as_trees(problem, kind):
    assert "trees have no derivatives" in refusal(kind().fit(problem.X, problem.two), problem.X, problem.two)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (AdaBoostClassifier(LogisticRegression()), "keeps no weights; fit its estimator by itself"),
        (AdaBoostRegressor(Ridge()), "keeps no weights; fit its estimator by itself"),
        (LinearDiscriminantAnalysis(), "it fits moments rather than a loss; fit LogisticRegression"),
        (IsotonicRegression(), "steps have no derivatives"),
        (NearestCentroid(), "compares with the mean of each class; fit LogisticRegression"),
    ],
)
def test_the_mend_is_of_the_estimator_at_hand(problem, estimator, words):
    X = problem.X[:, 0] if isinstance(estimator, IsotonicRegression) else problem.X
    y = problem.number if hasattr(estimator, "y_min") or "Regressor" in type(estimator).__name__ else problem.two
    assert words in refusal(estimator.fit(X, y), X, y)
    assert words in refusal(estimator.__class__(**estimator.get_params(deep=False)), X, y)


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        (Pipeline([]), "the Pipeline has no steps"),
        (Pipeline([("a", StandardScaler()), ("b", "passthrough")]), "the Pipeline ends in 'passthrough'"),
        (Pipeline([("a", StandardScaler()), ("b", None)]), "the Pipeline ends in None"),
        (Pipeline([("a", StandardScaler()), ("b", Pipeline([("c", "passthrough")]))]), "ends in 'passthrough'"),
        (TransformedTargetRegressor(Pipeline([])), "TransformedTargetRegressor is not fitted"),
    ],
)
def test_a_pipeline_that_ends_in_nothing_is_refused(problem, pipeline, words):
    assert words in refusal(pipeline, problem.X, problem.two)


def test_preprocessing_that_is_not_fitted_is_told(problem):
    last = LogisticRegression().fit(problem.X, problem.two)
    pipeline = Pipeline([("a", StandardScaler()), ("b", last)])
    assert "estimator: the pipeline's preprocessing is not fitted; call fit(X, y)" in refusal(
        pipeline, problem.X, problem.two
    )


@pytest.mark.parametrize("kind", [RidgeClassifier, MLPClassifier])
def test_several_labels_an_example_are_refused_with_a_mend(problem, kind):
    labels = np.column_stack([problem.two == "ham", problem.X[:, 1] > 0, problem.X[:, 2] > 0]).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = kind().fit(problem.X, labels)
    for y in (labels, labels[:, 0]):
        assert f"fitted on several labels per example; fit one {kind.__name__} per column of y" in refusal(
            estimator, problem.X, y
        )
    single = RidgeClassifier().fit(problem.X, problem.three)
    assert "of one-hot labels give y.argmax(1)" in refusal(single, problem.X, labels)


ALTERED = {
    "without coefficients": (lambda given: delattr(given, "coef_"), "has no attribute 'coef_'"),
    "coefficients of text": (lambda given: setattr(given, "coef_", [["a", "b", "c"]]), "could not convert string"),
    "another strength": (lambda given: given.set_params(C="strong"), "could not convert string to float: 'strong'"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_estimator_that_was_altered_after_fit_is_refused(problem, name):
    alter, words = ALTERED[name]
    estimator = LogisticRegression().fit(problem.X, problem.two)
    alter(estimator)
    said = refusal(estimator, problem.X, problem.two)
    assert said.startswith("estimator: LogisticRegression isn't as fit leaves it")
    assert words in said
    assert "fit it again" in said


def test_tensors_without_numbers_are_refused_by_name(problem):
    estimator = LogisticRegression().fit(problem.X, problem.two == "ham")
    right = {"X": problem.X, "y": problem.two == "ham", "sample_weight": np.ones(len(problem.X))}
    for name, values in right.items():
        with pytest.raises(InputError, match=f"^{name}: a tensor .* is on the meta device"):
            from_estimator(estimator, **{**right, name: torch.tensor(values, device="meta")})
        with pytest.raises(InputError, match=f"^{name}: a tensor .* has layout torch.sparse_coo; give a dense one"):
            from_estimator(estimator, **{**right, name: torch.tensor(values).to_sparse()})
