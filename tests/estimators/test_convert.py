import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.compose import TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC

import upweight as uw
from upweight import Influence
from upweight.errors import InputError
from upweight.estimators import from_estimator, prepare


@pytest.mark.parametrize(
    "steps",
    [
        [StandardScaler()],
        [SimpleImputer(), Pipeline([("scale", StandardScaler()), ("none", "passthrough")])],
        [PolynomialFeatures(2, include_bias=False), StandardScaler()],
        [],
    ],
)
def test_pipelines_take_raw_examples(problem, steps):
    X, new = problem.X.copy(), problem.new.copy()
    if steps and isinstance(steps[0], SimpleImputer):
        X[3, 1] = new[2, 0] = np.nan
    classifier = make_pipeline(*steps, LogisticRegression(solver="newton-cholesky", tol=1e-12)).fit(X, problem.two)
    objective = from_estimator(classifier, X, problem.two)
    assert objective.gradient().norm() < 1e-10
    queries = prepare(classifier, new, classifier.predict(new))
    np.testing.assert_allclose(objective.outputs(queries)[:, 0], classifier.decision_function(new), rtol=1e-10)


@pytest.mark.parametrize("kind", [LogisticRegression, SGDClassifier, LinearSVC])
@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_sparse_coefficients_are_those_that_they_were(problem, kind):
    for labels in (problem.two, problem.three):
        estimator = kind(random_state=0).fit(problem.X, labels)
        before = from_estimator(estimator, problem.X, labels)
        after = from_estimator(estimator.sparsify(), problem.X, labels)
        assert sparse.issparse(estimator.coef_)
        assert torch.equal(before.params, after.params)


def test_pipelines_of_pipelines_and_kernel_machines(problem):
    inner = make_pipeline(StandardScaler(), SVC())
    outer = make_pipeline(PolynomialFeatures(2), inner).fit(problem.X, problem.two)
    objective = from_estimator(outer, problem.X, problem.two)
    np.testing.assert_allclose(objective.outputs()[:, 0], outer.decision_function(problem.X), atol=1e-8)


def test_data_frames_and_sparse_encodings(problem):
    frame = pd.DataFrame({"colour": np.where(problem.X[:, 0] > 0, "red", "blue"), "size": problem.three.astype(str)})
    classifier = make_pipeline(OneHotEncoder(), LogisticRegression(solver="newton-cg", tol=1e-10))
    classifier.fit(frame, problem.two)
    objective = from_estimator(classifier, frame, pd.Series(problem.two), ids=[f"row {i}" for i in range(60)])
    np.testing.assert_allclose(objective.outputs()[:, 0], classifier.decision_function(frame), rtol=1e-10)
    assert objective.ids[3] == "row 3"


def test_the_estimator_and_the_arrays_stay_as_they_are(problem):
    X, y, weights = problem.X.copy(), problem.two.copy(), problem.weights.copy()
    estimators = [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y, logisticregression__sample_weight=weights),
        SVC().fit(X, y, sample_weight=weights),
        Ridge().fit(X, problem.number, sample_weight=weights),
    ]
    for estimator in estimators:
        targets = problem.number if isinstance(estimator, Ridge) else y
        before = pickle.dumps(estimator)
        objective = from_estimator(estimator, X, targets, sample_weight=weights)
        with torch.no_grad():
            for value in [*objective.model.parameters(), objective.params, objective.weights]:
                value.mul_(2)
        assert pickle.dumps(estimator) == before
    np.testing.assert_array_equal(X, problem.X)
    np.testing.assert_array_equal(weights, problem.weights)
    assert (y == problem.two).all()


def test_prepared_queries_serve_every_quantity(problem):
    classifier = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(problem.X, problem.two)
    influence = Influence(from_estimator(classifier, problem.X, problem.two))
    queries = prepare(classifier, problem.new, ["ham"] * 7)
    assert influence.attribute(queries, measurement="margin").scores.shape == (7, 60)
    assert influence.relabel([0, 1], [1, 0], queries).scores.shape == (7, 2)
    inputs, targets = prepare(classifier, problem.new)
    assert targets is None
    assert inputs.dtype == torch.float64
    torch.testing.assert_close(inputs, torch.tensor(problem.new))


def test_read_only_arrays_are_taken_without_a_warning(problem, recwarn):
    X = problem.X.copy()
    X.setflags(write=False)
    from_estimator(Ridge().fit(X, problem.number), X, problem.number)
    assert not recwarn.list


def test_a_subclass_may_minimise_something_else(problem):
    with pytest.raises(InputError, match=r"Mine has no objective here: write what it minimises as a torch\.nn\.Module"):
        from_estimator(type("Mine", (Ridge,), {})(), problem.X, problem.two)


def test_searches_are_told_of_their_best_estimator(problem):
    search = GridSearchCV(Ridge(), {"alpha": [1.0]}).fit(problem.X, problem.number)
    with pytest.raises(InputError, match=r"GridSearchCV has no objective here: give its best_estimator_"):
        from_estimator(search, problem.X, problem.number)


@pytest.mark.parametrize("inner", [Ridge(alpha=2.0), make_pipeline(StandardScaler(), Ridge(alpha=2.0))])
def test_transformed_targets_are_those_of_the_regressor(problem, inner):
    y = np.exp(problem.number)
    outer = TransformedTargetRegressor(inner, func=np.log, inverse_func=np.exp).fit(problem.X, y)
    found, same = (
        from_estimator(outer, problem.X, y),
        from_estimator(inner.fit(problem.X, np.log(y)), problem.X, np.log(y)),
    )
    torch.testing.assert_close(found.params, same.params)
    torch.testing.assert_close(found.losses(), same.losses())
    torch.testing.assert_close(found.losses(prepare(outer, problem.X[:5], y[:5])), same.losses()[:5])
    with_scaler = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(problem.X, y)
    piped = make_pipeline(StandardScaler(), with_scaler).fit(problem.X, y)
    assert from_estimator(piped, problem.X, y).gradient().abs().max() < 1e-12


def test_the_index_of_a_frame_names_rows_and_classes_are_named(problem):
    frame = pd.DataFrame(problem.X, index=[f"mail {i}" for i in range(60)])
    estimator = LogisticRegression(tol=1e-8).fit(problem.X, problem.two)
    objective = from_estimator(estimator, frame, problem.two)
    assert objective.ids.tolist()[:2] == ["mail 0", "mail 1"]
    found = uw.tasks.label_errors(objective)
    assert set(found.to_pandas()["given"]) == {"ham", "spam"}
    assert found.to_pandas()["id"].iloc[0].startswith("mail ")
    # An index that repeats itself names nobody.
    twice = pd.DataFrame(problem.X, index=[i // 2 for i in range(60)])
    assert from_estimator(estimator, twice, problem.two).ids.tolist() == list(range(60))
    assert from_estimator(estimator, frame, problem.two, ids=range(100, 160)).ids[0] == 100


@pytest.mark.parametrize("estimator", [Ridge(), make_pipeline(StandardScaler(), Ridge())])
def test_unfitted_estimators_are_refused(problem, estimator):
    for convert in (from_estimator, prepare):
        with pytest.raises(InputError, match=r"Ridge is not fitted; call fit\(X, y\) first"):
            convert(estimator, problem.X, problem.number)


def classifier(problem):
    return LogisticRegression().fit(problem.X, problem.two)


def regression(problem):
    return Ridge().fit(problem.X, problem.number)


def with_nan(values):
    values = np.array(values)
    values[4] = np.nan
    return values


def dated(X):
    return pd.DataFrame(X[:, :3], columns=list("abc")).assign(when=pd.date_range("2020", periods=len(X)))


def lists(n):
    values = np.empty(n, dtype=object)
    values[:] = [[1]] * n
    return values


@pytest.mark.parametrize(
    ("make", "X", "y", "message"),
    [
        (
            classifier,
            lambda p: p.X,
            lambda p: p.two[:50],
            r"y: need 60 targets, one per example of X; got shape \(50,\)",
        ),
        (classifier, lambda p: p.X, lambda p: np.where(p.X[:, 0] > 0, "spam", "eggs"), r"y: labels \['eggs'\] are not"),
        (classifier, lambda p: p.X, lambda p: (p.two == "spam").astype(int), r"y: labels \[.*\['ham', 'spam'\]"),
        (classifier, lambda p: p.X, lambda p: np.stack([p.two, p.two], 1), "one label per example"),
        (classifier, lambda p: with_nan(p.X), lambda p: p.two, "X: NaN .* 1 examples, first at position 4; drop or"),
        (classifier, lambda p: p.X[:, :3], lambda p: p.two, "X: has 3 features, but LogisticRegression .* on 4"),
        (classifier, lambda p: p.X[0], lambda p: p.two, r"X: must be \[examples, features\]"),
        (classifier, lambda p: p.X[:0], lambda p: p.two[:0], "X: must be .* got shape"),
        (
            classifier,
            lambda p: p.X.astype(str).astype(object) + "a",
            lambda p: p.two,
            "X: ndarray can't become numbers",
        ),
        (regression, lambda p: p.X, lambda p: with_nan(p.number), "y: NaN .* first at position 4"),
        (regression, lambda p: p.X, lambda p: p.two, "y: targets of Ridge must be numbers"),
        (regression, lambda p: p.X + 1j, lambda p: p.number, "X: holds complex numbers; give real numbers"),
        (regression, lambda p: p.X, lambda p: p.number + 0j, "y: holds complex numbers"),
        (regression, lambda p: p.X.astype("M8[ns]"), lambda p: p.number, "X: holds dates"),
        (regression, lambda p: p.X.astype("m8[ns]"), lambda p: p.number, "X: holds durations"),
        (regression, lambda p: dated(p.X), lambda p: p.number, r"X: columns \['when'\] hold dates; give real numbers"),
        (regression, lambda p: p.X, lambda p: p.number.astype("M8[ns]"), "y: holds dates"),
        (regression, lambda p: p.X, lambda p: [[1], [1, 2]], "y: give 60 targets, one per example of X"),
        (classifier, lambda p: p.X, lambda p: lists(60), r"y: \[1\] is a list, which is no label"),
        (regression, lambda p: p.X, lambda p: np.stack([p.number] * 2, 1), "y: Ridge was fitted on 1 targets"),
    ],
)
def test_examples_that_are_not_those_of_fit_are_refused(problem, make, X, y, message):
    with pytest.raises(InputError, match=message):
        from_estimator(make(problem), X(problem), y(problem))


@pytest.mark.parametrize(
    "weights", [np.ones(59), -np.ones(60), np.full(60, np.nan), "balanced", ["a"] * 60, [1j] * 60, 3]
)
def test_bad_sample_weights_are_refused(problem, weights):
    with pytest.raises(InputError, match="sample_weight: need 60 finite numbers ≥ 0"):
        from_estimator(regression(problem), problem.X, problem.number, sample_weight=weights)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", ["float64", torch.int64, torch.float16, torch.complex128, np.float32, None])
def test_other_precisions_are_refused(problem, dtype):
    for change in (
        lambda: from_estimator(regression(problem), problem.X, problem.number, dtype=dtype),
        lambda: from_estimator(regression(problem), problem.X, problem.number).to(dtype),
    ):
        with pytest.raises(InputError, match=r"^dtype: give torch\.float64 or torch\.float32; got "):
            change()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("smooth", ["x", 0, -1.0, np.nan, True])
def test_a_temperature_that_is_none_is_refused_by_its_name(problem, smooth):
    with pytest.raises(InputError, match=r"^smooth .*give a finite number > 0"):
        from_estimator(classifier(problem), problem.X, problem.two, smooth=smooth)


@pytest.mark.usefixtures("unchecked")
def test_names_of_several_kinds_are_kept_and_none_stands_twice(problem):
    mixed = [1, "a", *range(2, 60)]
    frame = pd.DataFrame(problem.X, index=mixed)
    for options in ({"ids": mixed}, {"ids": np.array(mixed, dtype=object)}):
        assert from_estimator(regression(problem), problem.X, problem.number, **options).ids.tolist() == mixed
    assert from_estimator(regression(problem), frame, problem.number).ids.tolist() == mixed
    with pytest.raises(InputError, match=r"^ids: must be unique; None stands 60 times"):
        from_estimator(regression(problem), problem.X, problem.number, ids=[None] * 60)


def test_tensors_with_a_graph_are_taken(problem):
    X, y = (torch.tensor(values, requires_grad=True) for values in (problem.X, problem.number))
    found = from_estimator(regression(problem), X, y, sample_weight=torch.ones(60))
    torch.testing.assert_close(found.params, from_estimator(regression(problem), problem.X, problem.number).params)
    assert found.risk() == from_estimator(regression(problem), problem.X, problem.number).risk()


def test_sparse_data_that_does_not_fit_is_refused(problem):
    fitted = LogisticRegression().fit(problem.X, problem.two)
    fitted.n_features_in_ = 10**8
    with pytest.raises(InputError, match=r"X: sparse .* GiB when dense, and up to 2 GiB is converted"):
        from_estimator(fitted, sparse.csr_matrix((60, 10**8)), problem.two)


def test_columns_in_another_order_are_refused(problem):
    frame = pd.DataFrame(problem.X, columns=list("abcd"))
    ridge = Ridge().fit(frame, problem.number)
    from_estimator(ridge, frame, problem.number)
    with pytest.raises(InputError, match=r"X: its columns \['d', 'c', 'b', 'a'\] are not those of fit"):
        from_estimator(ridge, frame[list("dcba")], problem.number)


def test_what_preprocessing_refuses_is_passed_on(problem):
    fitted = make_pipeline(PolynomialFeatures(2), Ridge()).fit(problem.X, problem.number)
    with pytest.raises(InputError, match="X: the pipeline's preprocessing refused it: Input X contains NaN"):
        from_estimator(fitted, with_nan(problem.X), problem.number)


def test_the_example_of_the_docstring_runs():
    import doctest

    from upweight.estimators import convert

    assert doctest.testmod(convert).failed == 0
