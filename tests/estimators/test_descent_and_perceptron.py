"""SGD estimators and MLPs: the objectives that they descend on, and how far from a minimum they stopped."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from upweight import Influence
from upweight.errors import InputError, NotStationaryWarning
from upweight.estimators import from_estimator, prepare

# Averaged over many epochs. Its own stopping rule counts every example once, whatever the weights, so it is off.
SLOW = {
    "learning_rate": "invscaling",
    "eta0": 0.2,
    "power_t": 0.6,
    "tol": None,
    "max_iter": 10_000,
    "average": 100_000,
    "random_state": 0,
}


def quietly(estimator, *data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*data, **options)


@pytest.mark.parametrize("loss", ["log_loss", "squared_hinge", "squared_error"])
@pytest.mark.parametrize("classes", ["two", "three"])
@pytest.mark.parametrize("weight", [None, "balanced"])
def test_patient_descent_ends_where_the_gradient_vanishes(problem, loss, classes, weight):
    y = getattr(problem, classes)
    estimator = quietly(
        SGDClassifier(loss=loss, alpha=0.05, class_weight=weight, **SLOW), problem.X, y, sample_weight=problem.weights
    )
    objective = from_estimator(estimator, problem.X, y, sample_weight=problem.weights)
    assert objective.gradient().abs().max() < 2e-3
    # With a fifth more of the penalty it doesn't.
    assert objective.replace(l2={"weight": 0.06}).gradient().abs().max() > 4e-3
    said = objective.outputs(prepare(estimator, problem.new, y[:7])).squeeze()
    np.testing.assert_allclose(said, estimator.decision_function(problem.new), rtol=1e-9)


def test_a_regression_does_so_too(problem):
    estimator = quietly(SGDRegressor(alpha=0.05, **SLOW), problem.X, problem.number, sample_weight=problem.weights)
    objective = from_estimator(estimator, problem.X, problem.number, sample_weight=problem.weights)
    assert objective.gradient().abs().max() < 2e-3


def test_hasty_descent_is_told_with_its_figures(problem):
    estimator = SGDClassifier(loss="log_loss", random_state=0).fit(problem.X, problem.two)
    with pytest.warns(
        NotStationaryWarning, match="stops after epochs, not at a minimum.*an estimator that has a solver"
    ):
        from_estimator(estimator, problem.X, problem.two)


@pytest.mark.parametrize("kind", [SGDClassifier, SGDRegressor])
def test_an_elastic_net_without_its_l1_part_is_l2(problem, kind):
    loss, y = ("log_loss", problem.two) if kind is SGDClassifier else ("squared_error", problem.number)
    options = {"loss": loss, "alpha": 0.05, **SLOW, "max_iter": 2000}
    same = from_estimator(quietly(kind(penalty="l2", **options), problem.X, y), problem.X, y)
    found = from_estimator(quietly(kind(penalty="elasticnet", l1_ratio=0, **options), problem.X, y), problem.X, y)
    torch.testing.assert_close(found.params, same.params)
    assert found.l2.tolist() == same.l2.tolist()
    with pytest.raises(InputError, match="penalty='l2'"):
        from_estimator(quietly(kind(penalty="elasticnet", **options), problem.X, y), problem.X, y)


def test_a_perceptron_that_stopped_at_kinks_is_told_and_can_be_explained(problem):
    """Its gradient is larger than what leaving one example out changes, though none of its entries is."""
    estimator = MLPClassifier((50,), solver="lbfgs", alpha=0.5, tol=1e-10, max_iter=50_000, random_state=2)
    quietly(estimator, problem.X, problem.two)
    with pytest.warns(NotStationaryWarning, match="minimum may be at kinks, where no gradient is small"):
        objective = from_estimator(estimator, problem.X, problem.two)
    assert objective.gradient().abs().max() < objective.stationarity().example_scale
    found = Influence(objective).attribute(prepare(estimator, problem.new, problem.two[:7]))
    assert bool(found.scores.isfinite().all())


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (SGDClassifier(loss="modified_huber"), "loss='log_loss' or 'squared_hinge'"),
        (SGDClassifier(loss="log_loss", penalty="l1"), "penalty='l2'"),
        (SGDRegressor(loss="huber"), "loss='squared_error'"),
    ],
)
def test_other_losses_and_penalties_are_refused_with_a_mend(problem, estimator, message):
    y = problem.two if isinstance(estimator, SGDClassifier) else problem.number
    with pytest.raises(InputError, match=message):
        from_estimator(quietly(estimator, problem.X, y), problem.X, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh"])
@pytest.mark.parametrize("target", ["two", "three", "number"])
def test_a_perceptron_of_lbfgs_is_where_the_gradient_vanishes(problem, activation, target):
    y, kind = getattr(problem, target), MLPRegressor if target == "number" else MLPClassifier
    options = {"solver": "lbfgs", "alpha": 0.5, "tol": 1e-10, "max_iter": 50_000, "random_state": 0}
    estimator = kind(hidden_layer_sizes=(3,), activation=activation, **options)
    quietly(estimator, problem.X, y, sample_weight=problem.weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotStationaryWarning)
        objective = from_estimator(estimator, problem.X, y, sample_weight=problem.weights)
    assert objective.gradient().abs().max() < 2e-4
    assert objective.replace(l2={"*.weight": 0.7 / problem.weights.sum()}).gradient().abs().max() > 1e-3
    assert sorted(set(objective.l2.tolist())) == [0.0, pytest.approx(0.5 / problem.weights.sum())]
    outputs = objective.outputs(prepare(estimator, problem.new, y[:7]))
    if target == "number":
        expected = estimator.predict(problem.new)
    else:
        outputs = outputs.softmax(1) if target == "three" else torch.cat([-outputs, outputs], 1).mul(0.5).softmax(1)
        expected = estimator.predict_proba(problem.new)
    np.testing.assert_allclose(outputs.squeeze(), expected, rtol=1e-9)


def test_several_outputs_of_a_perceptron_are_summed(problem):
    """Its gradient is that of the sum, whatever its loss_ says."""
    y = np.column_stack([problem.number, problem.X[:, 1] ** 2, problem.X[:, 0]])
    estimator = MLPRegressor(
        hidden_layer_sizes=(), solver="sgd", alpha=0.5, batch_size=60, tol=1e-14, max_iter=20_000, random_state=0
    )
    quietly(estimator.set_params(learning_rate_init=0.05, n_iter_no_change=2000), problem.X, y)
    assert from_estimator(estimator, problem.X, y).gradient().abs().max() < 1e-5


def test_batches_carry_the_whole_penalty_each(problem):
    """The risk that is descended on has α over the size of a batch: what full batches of that penalty give."""
    options = {"alpha": 0.5, "tol": 1e-14, "max_iter": 3000, "n_iter_no_change": 3000, "random_state": 0}
    estimator = MLPClassifier(hidden_layer_sizes=(), solver="sgd", batch_size=15, learning_rate_init=2e-3, **options)
    objective = from_estimator(quietly(estimator, problem.X, problem.two), problem.X, problem.two)
    assert sorted(set(objective.l2.tolist())) == [0.0, pytest.approx(0.5 / 15)]
    assert objective.gradient().abs().max() < 2e-3
    assert objective.replace(l2={"*.weight": 0.5 / 60}).gradient().abs().max() > 5e-3


def test_a_perceptron_without_hidden_layers_is_a_logistic_regression(problem):
    estimator = MLPClassifier(hidden_layer_sizes=(), solver="lbfgs", alpha=2.0, tol=1e-12, max_iter=50_000)
    found = from_estimator(quietly(estimator, problem.X, problem.two), problem.X, problem.two)
    same = from_estimator(LogisticRegression(C=0.5, tol=1e-12).fit(problem.X, problem.two), problem.X, problem.two)
    torch.testing.assert_close(found.params, same.params, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.l2, same.l2)
