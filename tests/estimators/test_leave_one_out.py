"""Predictions against refits by scikit-learn itself."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from upweight import Influence
from upweight.estimators import from_estimator, prepare


def output(model, batch):
    return model(batch[0]).reshape(-1)


def refitted_outputs(estimator, problem, y, weights):
    """Change of the outputs at new points when sample weights are ``weights[i]``, for each i: ``[new, train]``."""

    def outputs(fitted):
        return (getattr(fitted, "decision_function", None) or fitted.predict)(problem.new)

    before = outputs(estimator)
    refits = [clone(estimator).fit(problem.X, y, sample_weight=row) for row in weights]
    return np.stack([outputs(refit) - before for refit in refits], axis=1)


def left_out(weights):
    """Weights with each example in turn at zero; C Σ and α as they are, so λ is at weights 1/n too."""
    return weights * (1 - np.eye(len(weights)))


def influence_and_queries(estimator, problem, y, weights):
    objective = from_estimator(estimator, problem.X, y, sample_weight=weights)
    return Influence(objective), prepare(estimator, problem.new, estimator.predict(problem.new))


@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_is_exact(problem, intercept):
    ridge = Ridge(alpha=3.0, fit_intercept=intercept).fit(problem.X, problem.number, problem.weights)
    influence, queries = influence_and_queries(ridge, problem, problem.number, problem.weights)
    predicted = influence.attribute(queries, measurement=output, leverage_corrected=True).scores
    actual = refitted_outputs(ridge, problem, problem.number, left_out(problem.weights))
    np.testing.assert_allclose(predicted, actual, rtol=0, atol=1e-12)
    assert np.abs(actual).max() > 1e-2


@pytest.mark.parametrize("solver", ["newton-cholesky", "liblinear"])
def test_logistic_is_close(problem, solver):
    classifier = LogisticRegression(C=0.5, solver=solver, tol=1e-10, max_iter=10_000, class_weight={"ham": 2.0})
    classifier.fit(problem.X, problem.two, problem.weights)
    influence, queries = influence_and_queries(classifier, problem, problem.two, problem.weights)
    actual = refitted_outputs(classifier, problem, problem.two, left_out(problem.weights))
    corrected = influence.attribute(queries, measurement=output, leverage_corrected=True).scores.numpy()
    plain = influence.attribute(queries, measurement=output).scores.numpy()
    errors = [np.linalg.norm(scores - actual) / np.linalg.norm(actual) for scores in (corrected, plain)]
    assert errors[0] < 0.06
    assert errors[0] < errors[1] / 2


def test_renormalised_removal_matches_refits_with_rescaled_strength(problem):
    """The mean over n−1 at fixed λ = 1/(nC) is scikit-learn's problem at C′ = nC/(n−1)."""
    classifier = LogisticRegression(C=0.05, solver="newton-cholesky", tol=1e-12).fit(problem.X, problem.two)
    ones = np.ones(60)
    influence, queries = influence_and_queries(classifier, problem, problem.two, ones)
    scores = influence.attribute(queries, measurement=output, renormalize=True).scores.numpy()
    actual = refitted_outputs(classifier, problem, problem.two, left_out(ones) * 60 / 59)
    other = refitted_outputs(classifier, problem, problem.two, left_out(ones))
    error, mixed = (np.linalg.norm(scores - truth) / np.linalg.norm(truth) for truth in (actual, other))
    assert error < 0.1
    assert error < mixed / 2


def test_multinomial_is_close(problem):
    classifier = LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-10).fit(problem.X, problem.three)
    influence, queries = influence_and_queries(classifier, problem, problem.three, np.ones(60))
    predicted = influence.attribute(queries, measurement=lambda m, b: m(b[0])[:, 2], leverage_corrected=True)
    refits = [clone(classifier).fit(problem.X, problem.three, row) for row in left_out(np.ones(60))]
    before = classifier.decision_function(problem.new)[:, 2]
    actual = np.stack([refit.decision_function(problem.new)[:, 2] - before for refit in refits], axis=1)
    assert np.linalg.norm(predicted.scores.numpy() - actual) < 0.05 * np.linalg.norm(actual)
