import warnings

import numpy as np
import pytest
import sklearn
import torch
from packaging.version import parse
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

from upweight import Influence
from upweight.errors import InputError, NotStationaryWarning
from upweight.estimators import from_estimator, prepare
from upweight.losses import BinaryLogistic, CrossEntropy

EXACT = {"tol": 1e-12, "max_iter": 20_000}


def converged(estimator, X, y, weights=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at this tolerance line searches stop at rounding
        return estimator.fit(X, y, sample_weight=weights)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"ham": 3.0, "spam": 0.5}])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky", "saga", "liblinear"])
def test_binary_gradient_vanishes_at_the_coefficients(problem, solver, intercept, class_weight):
    classifier = LogisticRegression(
        solver=solver, C=0.7, fit_intercept=intercept, class_weight=class_weight, intercept_scaling=3.0, **EXACT
    )
    converged(classifier, problem.X, problem.two, problem.weights)
    objective = from_estimator(classifier, problem.X, problem.two, sample_weight=problem.weights)
    assert objective.p == 4 + intercept
    assert objective.gradient().norm() < 1e-7
    assert isinstance(objective.loss, BinaryLogistic)
    # The gradient does see each ingredient.
    for other in (problem.weights[::-1], None):
        with pytest.warns(NotStationaryWarning, match="sample_weight"):
            assert from_estimator(classifier, problem.X, problem.two, sample_weight=other).gradient().norm() > 1e-3


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 20: 0.5}])
@pytest.mark.parametrize("C", [0.7, np.inf])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky", "sag"])
def test_multinomial_gradient_vanishes_and_the_hessian_is_invertible(problem, solver, intercept, C, class_weight):
    classifier = LogisticRegression(solver=solver, C=C, fit_intercept=intercept, class_weight=class_weight, **EXACT)
    converged(classifier, problem.X, problem.three, problem.weights)
    objective = from_estimator(classifier, problem.X, problem.three, sample_weight=problem.weights)
    assert objective.gradient().norm() < 1e-6
    assert objective.is_linear
    np.testing.assert_allclose(objective.outputs(), classifier.decision_function(problem.X), atol=1e-8)
    scores = Influence(objective).attribute(prepare(classifier, problem.X[:3], problem.three[:3])).scores
    assert torch.isfinite(scores).all()


def test_centred_cross_entropy_scores_are_those_of_the_pseudo_inverse(problem):
    classifier = converged(LogisticRegression(C=0.7, **EXACT), problem.X, problem.three)
    objective = from_estimator(classifier, problem.X, problem.three)
    queries = prepare(classifier, problem.X[:5], problem.three[:5])
    got = Influence(objective).attribute(queries).scores

    plain = objective.replace(loss=CrossEntropy())
    hessian = torch.autograd.functional.hessian(
        lambda theta: (
            torch.nn.functional.cross_entropy(
                objective.data.arrays[0] @ theta[:12].reshape(3, 4).T + theta[12:], objective.data.arrays[1]
            )
            + plain.penalty(theta)
        ),
        plain.params,
    )
    assert torch.linalg.eigvalsh(hessian)[0].abs() < 1e-12
    function = plain.engine.function
    query = function.each(plain.params, queries).materialize()
    train = function.each(plain.params, plain.data.arrays).materialize()
    torch.testing.assert_close(
        got, query @ torch.linalg.pinv(hessian, rtol=1e-10) @ train.T / 60, rtol=1e-7, atol=1e-10
    )
    torch.testing.assert_close(objective.losses(), plain.losses(), rtol=1e-10, atol=1e-10)


def test_multinomial_risk_is_scikit_learns_divided_by_nC(problem):
    classifier = converged(LogisticRegression(C=0.7, **EXACT), problem.X, problem.three, problem.weights)
    objective = from_estimator(classifier, problem.X, problem.three, sample_weight=problem.weights)
    rows = np.searchsorted(classifier.classes_, problem.three)
    nats = -classifier.predict_log_proba(problem.X)[np.arange(60), rows]
    total = 0.7 * (problem.weights * nats).sum() + 0.5 * (classifier.coef_**2).sum()
    assert objective.risk() == pytest.approx(total / (60 * 0.7), rel=1e-10)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear"])
def test_cross_validated_uses_the_chosen_strength(problem, solver):
    classifier = LogisticRegressionCV(
        Cs=[0.05, 0.5], cv=3, solver=solver, class_weight="balanced", intercept_scaling=3.0, **EXACT
    )
    converged(classifier, problem.X, problem.two, problem.weights)
    objective = from_estimator(classifier, problem.X, problem.two, sample_weight=problem.weights)
    assert objective.gradient().norm() < 1e-7
    assert float(objective.l2[0]) == pytest.approx(1 / (60 * np.ravel(classifier.C_)[0]))


def test_outputs_are_the_decision_function_on_new_data(problem):
    classifier = LogisticRegression().fit(problem.X, problem.two)
    objective = from_estimator(classifier, problem.X, problem.two)
    queries = prepare(classifier, problem.new, classifier.predict(problem.new))
    np.testing.assert_allclose(objective.outputs(queries)[:, 0], classifier.decision_function(problem.new), rtol=1e-12)
    assert queries[1].tolist() == (classifier.predict(problem.new) == "spam").astype(int).tolist()


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_l1_is_refused_by_name(problem, l1_ratio):
    asked = {} if parse(sklearn.__version__) >= parse("1.8") else {"penalty": "elasticnet"}
    classifier = LogisticRegression(solver="saga", l1_ratio=l1_ratio, max_iter=5000, **asked)
    classifier.fit(problem.X, problem.two)
    with pytest.raises(InputError, match=r"l1 penalty .* not twice differentiable"):
        from_estimator(classifier, problem.X, problem.two)


def test_fold_averages_are_refused(problem):
    classifier = converged(LogisticRegressionCV(Cs=[0.1, 1], cv=3, refit=False), problem.X, problem.two)
    with pytest.raises(InputError, match="refit=True"):
        from_estimator(classifier, problem.X, problem.two)


@pytest.mark.parametrize(("multi_class", "labels"), [("ovr", "three"), ("multinomial", "two")])
def test_other_problems_of_older_versions_are_refused(problem, multi_class, labels):
    y = getattr(problem, labels)
    classifier = LogisticRegression().fit(problem.X, y)
    classifier.multi_class = multi_class
    with pytest.raises(InputError, match=f"multi_class='{multi_class}'"):
        from_estimator(classifier, problem.X, y)
