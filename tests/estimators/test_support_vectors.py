import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.svm import SVC, LinearSVC

from upweight import Influence
from upweight.errors import InputError, NotStationaryWarning
from upweight.estimators import from_estimator, prepare
from upweight.estimators.kernel import Kernel, KernelFeatures
from upweight.losses import Hinge, SmoothHinge


@pytest.mark.parametrize("labels", ["two", "three"])
@pytest.mark.parametrize("weighting", [None, "balanced", "given"])
@pytest.mark.parametrize("intercept", [True, False])
def test_squared_hinge_gradient_vanishes_at_the_coefficients(problem, intercept, weighting, labels):
    y = getattr(problem, labels)
    first, second = np.unique(y)[:2]
    class_weight = {first: 3.0, second: 0.5} if weighting == "given" else weighting
    machine = LinearSVC(
        C=0.3,
        dual=False,
        tol=1e-14,
        max_iter=10_000,
        fit_intercept=intercept,
        intercept_scaling=3.0,
        class_weight=class_weight,
    )
    machine.fit(problem.X, y, sample_weight=problem.weights)
    objective = from_estimator(machine, problem.X, y, sample_weight=problem.weights)
    assert objective.is_linear
    assert objective.gradient().norm() < 1e-6
    with pytest.warns(NotStationaryWarning, match="sample_weight"):
        assert from_estimator(machine, problem.X, y).gradient().norm() > 1e-3
    queries = prepare(machine, problem.new, machine.predict(problem.new))
    expected = machine.decision_function(problem.new).reshape(7, -1)
    np.testing.assert_allclose(objective.outputs(queries), expected, rtol=1e-10)


def test_linear_hinge_risk_is_the_primal_and_no_direction_lowers_it(problem):
    machine = LinearSVC(loss="hinge", C=0.1, tol=1e-10, max_iter=10**6, intercept_scaling=3.0, class_weight="balanced")
    machine.fit(problem.X, problem.two)
    objective = from_estimator(machine, problem.X, problem.two, smooth=None)
    signs = np.where(problem.two == "spam", 1, -1)
    by_class = 60 / (2 * np.array([(signs == sign).sum() for sign in (-1, 1)]))
    losses = np.maximum(0, 1 - signs * machine.decision_function(problem.X)) * by_class[(signs + 1) // 2]
    penalty = 0.5 * ((machine.coef_**2).sum() + (machine.intercept_[0] / 3) ** 2)
    assert objective.risk() * 60 * 0.1 == pytest.approx(0.1 * losses.sum() + penalty, rel=1e-10)
    directions = torch.randn(200, objective.p, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for size in (1e-3, 1e-1):
        assert objective.risks_and_gradients(objective.params + size * directions)[0].min() > objective.risk() - 1e-9


@pytest.mark.parametrize("class_weight", [None, {"ham": 3.0, "spam": 0.5}])
@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly", "precomputed"])
def test_kernel_machine_by_strong_duality(problem, kernel, class_weight):
    """A primal and a feasible dual point of equal value are both optimal: the objective is the machine's own."""
    gamma = 1 / (4 * problem.X.var())
    settings = {} if kernel == "linear" else {"gamma": gamma}
    if kernel == "poly":
        settings |= {"degree": 3, "coef0": 1.0}
    points = problem.X
    if kernel == "precomputed":
        full = pairwise_kernels(points, metric="rbf", gamma=gamma)
        X, new = full, pairwise_kernels(problem.new, points, metric="rbf", gamma=gamma)
    else:
        full = pairwise_kernels(points, metric=kernel, **settings)
        X, new = points, problem.new
    coef0 = settings.get("coef0", 0.0)
    machine = SVC(kernel=kernel, C=2.0, tol=1e-12, coef0=coef0, class_weight=class_weight)
    machine.fit(X, problem.two, sample_weight=problem.weights)
    objective = from_estimator(machine, X, problem.two, sample_weight=problem.weights, smooth=None)

    dual = np.zeros(60)
    dual[machine.support_] = machine.dual_coef_[0]
    signs = np.where(problem.two == "spam", 1, -1)
    assert (dual * signs >= 0).all()
    assert (dual * signs <= 2.0 * objective.weights.numpy() * (1 + 1e-12)).all()
    assert abs(dual.sum()) < 1e-9  # the intercept is not penalised
    value = np.abs(dual).sum() - 0.5 * dual @ full @ dual
    # libsvm keeps its kernel rows in single precision.
    assert objective.risk() * 60 * 2.0 == pytest.approx(value, rel=5e-6)

    assert isinstance(objective.loss, Hinge)
    assert objective.is_linear
    assert objective.l2[-1] == 0
    np.testing.assert_allclose(objective.outputs()[:, 0], machine.decision_function(X), atol=1e-8)
    queries = prepare(machine, new, machine.predict(new))
    np.testing.assert_allclose(objective.outputs(queries)[:, 0], machine.decision_function(new), atol=1e-8)


def test_features_of_new_points_are_rows_of_the_joint_cholesky_factor(problem):
    """K_{test,train} = L_test[:, :n] L_trainᵀ."""
    kernel = Kernel("rbf", gamma=0.5)
    train, test = torch.tensor(problem.X), torch.tensor(problem.new)
    joint = torch.cat([train, test])
    factor = torch.linalg.cholesky(kernel(joint, joint))
    features = KernelFeatures(kernel, train)
    torch.testing.assert_close(features(test), factor[60:, :60], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(features(test) @ features.factor.T, kernel(test, train), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(features(train), features.factor, rtol=1e-7, atol=1e-9)
    expected = pairwise_kernels(problem.new, problem.X, metric="rbf", gamma=0.5)
    np.testing.assert_allclose(kernel(test, train), expected, rtol=1e-12)


def test_duplicates_need_no_more_than_a_tiny_jitter(problem):
    X, y = np.concatenate([problem.X, problem.X[:5]]), np.concatenate([problem.two, problem.two[:5]])
    machine = SVC().fit(X, y)
    objective = from_estimator(machine, X, y)
    assert 0 < objective.model[0].jitter <= 1e-10
    assert "jitter=" in repr(objective.model)
    np.testing.assert_allclose(objective.outputs()[:, 0], machine.decision_function(X), atol=1e-8)


def test_smooth_hinge_lies_within_t_log_2_of_the_hinge(problem):
    machine = SVC().fit(problem.X, problem.two)
    smooth = from_estimator(machine, problem.X, problem.two, smooth=0.1)
    exact = from_estimator(machine, problem.X, problem.two, smooth=None)
    assert smooth.loss == SmoothHinge(0.1)
    assert from_estimator(machine, problem.X, problem.two).loss == SmoothHinge(0.001)
    excess = smooth.losses() - exact.losses()
    assert excess.min() >= 0
    assert excess.max() <= 0.1 * np.log(2) + 1e-12


@pytest.mark.filterwarnings(f"ignore::{NotStationaryWarning.__module__}.{NotStationaryWarning.__name__}")
def test_kernel_machine_influence_follows_leave_one_out(problem):
    machine = SVC(C=1.0, tol=1e-10).fit(problem.X, problem.two)
    objective = from_estimator(machine, problem.X, problem.two, smooth=0.1)
    margins = Influence(objective).attribute(
        prepare(machine, problem.new, machine.predict(problem.new)), measurement=output
    )
    actual = []
    for left_out in range(60):
        kept = np.ones(60)
        kept[left_out] = 0
        refit = SVC(C=1.0, tol=1e-10, gamma=1 / (4 * problem.X.var())).fit(problem.X, problem.two, sample_weight=kept)
        actual.append(refit.decision_function(problem.new) - machine.decision_function(problem.new))
    predicted, actual = margins.scores.numpy().ravel(), np.array(actual).T.ravel()
    assert np.corrcoef(predicted, actual)[0, 1] > 0.8


def output(model, batch):
    return model(batch[0])[:, 0]


def test_single_precision_keeps_the_decision_function(problem):
    machine = SVC().fit(problem.X, problem.two)
    objective = from_estimator(machine, problem.X, problem.two, dtype=torch.float32)
    assert objective.dtype == torch.float32
    np.testing.assert_allclose(objective.outputs()[:, 0], machine.decision_function(problem.X), atol=1e-4)


def test_sparse_training_data_is_made_dense(problem):
    X = sparse.csr_matrix(np.where(np.abs(problem.X) > 0.3, problem.X, 0))
    for machine in (SVC(), LinearSVC(dual=False, tol=1e-12)):
        machine.fit(X, problem.two)
        objective = from_estimator(machine, X, problem.two)
        np.testing.assert_allclose(objective.outputs()[:, 0], machine.decision_function(X), atol=1e-8)


@pytest.mark.parametrize(
    ("machine", "labels", "message"),
    [
        (LinearSVC(penalty="l1", dual=False), "two", r"penalty='l1'.*not twice differentiable"),
        (LinearSVC(multi_class="crammer_singer"), "three", "multi_class='crammer_singer'"),
        (SVC(), "three", "SVC on 3 classes .* one per class against the rest"),
        (SVC(kernel="sigmoid"), "two", "kernel 'sigmoid' is not supported"),
        (SVC(kernel=lambda a, b: a @ b.T), "two", "kernel 'a function' .* kernel='precomputed'"),
        (SVC(kernel="poly", degree=1, coef0=-50.0), "two", "not positive semi-definite"),
    ],
)
def test_machines_without_an_exact_objective_are_refused(problem, machine, labels, message):
    y = getattr(problem, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        machine.fit(problem.X, y)
    with pytest.raises(InputError, match=message):
        from_estimator(machine, problem.X, y)


def test_other_data_than_the_machine_was_fitted_on_is_refused(problem):
    machine = SVC().fit(problem.X, problem.two)
    for order in (slice(None, None, -1), slice(50)):
        with pytest.raises(InputError, match="not the 60 that the SVC was fitted on"):
            from_estimator(machine, problem.X[order], problem.two[order])


def test_kernel_matrices_beyond_memory_are_refused(monkeypatch, problem):
    machine = SVC().fit(problem.X, problem.two)
    monkeypatch.setattr("upweight.estimators.kernel.KERNEL_EXAMPLES", 60)
    assert from_estimator(machine, problem.X, problem.two).n == 60
    monkeypatch.setattr("upweight.estimators.kernel.KERNEL_EXAMPLES", 59)
    with pytest.raises(InputError, match=r"60 examples need a kernel matrix .* up to 59 are allowed"):
        from_estimator(machine, problem.X, problem.two)
