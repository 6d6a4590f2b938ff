"""Where there is no number: NaN in its own place, one warning that names it, and everything else as it should be."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

import upweight as uw
from figures import texts
from regressions import MEASURES, close, data, glm, least_squares, objective, solved
from upweight.diagnostics import Statistics
from upweight.errors import InputError, NotStationaryWarning, UpweightWarning
from upweight.estimators.losses import HalfDeviance
from upweight.quantities.leverage import leverages


def warned(objective: uw.Objective, *parts: str) -> Statistics:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = uw.statistics(objective)
    (only,) = [each for each in caught if issubclass(each.category, UpweightWarning)]
    for part in parts:
        assert part in str(only.message)
    return found


def undefined(found: Statistics) -> np.ndarray:
    return np.flatnonzero(np.isnan(found.to_pandas()).any(axis=1))


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e9])
def test_a_row_of_leverage_one(scale: float) -> None:
    given = data("stackloss")
    names = [f"day {i}" for i in range(21)]
    dummy = np.zeros(21)
    dummy[7] = scale
    found = warned(least_squares(np.c_[given.X, dummy], given.y, ids=names), "leverage 1", "row day 7")
    assert undefined(found).tolist() == [7]
    assert found.hat[7] == 1
    others = np.arange(21) != 7
    rest = uw.statistics(least_squares(given.X[others], given.y[others]))
    for name in set(MEASURES) - {"dfbetas", "covariance_ratio"}:
        tolerance = 1e-8
        wanted = getattr(rest, name)
        wanted = wanted * 4 / 5 if name == "cooks_distance" else wanted  # a parameter more
        close(getattr(found, name)[others], wanted, tolerance)
    close(found.dfbetas[others][:, :4], rest.dfbetas)


def test_a_row_of_leverage_one_in_a_poisson_regression() -> None:
    given = data("cpunish")
    dummy = np.zeros(17)
    dummy[4] = 1.0
    X = np.c_[given.X[:, :2] / given.X[:, :2].max(0), np.ones(17), dummy]
    fitted = uw.retraining.fit(objective(X, given.y, np.zeros(4), HalfDeviance(1.0)), tolerance=1e-12)
    found = warned(fitted, "leverage 1", "row 4")
    assert undefined(found).tolist() == [4]


def test_a_row_of_leverage_just_below_one_is_defined() -> None:
    given = data("stackloss")
    column = np.zeros(21)
    column[7], column[8] = 1.0, 1e-4
    found = uw.statistics(least_squares(np.c_[given.X, column], given.y))
    assert 1 - 1e-7 < found.hat[7] < 1
    assert not len(undefined(found))


def test_a_perfect_fit() -> None:
    given = data("longley")
    found = warned(least_squares(given.X, given.X @ np.arange(1.0, 8.0)), "the fit is perfect")
    assert np.isfinite(found.hat).all()
    assert np.isnan(found.studentised_internal).all()
    assert np.isnan(found.dfbetas).all()


def test_a_fit_that_is_perfect_without_one_row() -> None:
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=(12, 2)), np.ones(12)]
    y = X @ [1.0, -2.0, 3.0]
    y[4] += 5
    found = warned(least_squares(X, y, ids=list("abcdefghijkl")), "fitted perfectly without it: row e")
    assert undefined(found).tolist() == [4]
    assert np.isfinite(found.cooks_distance).all()
    assert np.isfinite(found.studentised_internal).all()
    assert found.covariance_ratio[4] == 0


def test_no_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4, 3)), rng.normal(size=4)
    found = warned(least_squares(X, y), "of 1 degrees of freedom none is left")
    assert np.isnan(found.studentised_external).all()
    assert np.isfinite(found.cooks_distance).all()
    found = warned(least_squares(X[:3], y[:3]), "3 parameters leave no degrees of freedom")
    assert np.isnan(found.cooks_distance).all()
    assert np.isfinite(found.hat).all()
    assert "not defined" in repr(found)


def test_columns_that_depend_on_each_other_spoil_only_their_own_dfbetas() -> None:
    given = data("stackloss")
    X = pd.DataFrame(given.X[:, :3], columns=["a", "b", "c"])
    X["d"] = 2 * X.a - X.b
    with pytest.warns(UpweightWarning, match=r"DFBETAS of a, b, d: these columns depend"):
        found = uw.statistics(least_squares(np.c_[X, np.ones(21)], given.y), names=[*X, "intercept"])
    wanted = uw.statistics(least_squares(given.X, given.y))
    for name in set(MEASURES) - {"dfbetas"}:
        close(getattr(found, name), getattr(wanted, name))
    frame = found.to_pandas()
    assert frame[["dfb_a", "dfb_b", "dfb_d"]].isna().all(axis=None)
    close(frame[["dfb_c", "dfb_intercept"]], wanted.dfbetas[:, 2:])
    assert found.effective_parameters == 4
    ridge = uw.statistics(Ridge().fit(X, given.y), X, given.y)
    assert np.isfinite(ridge.dfbetas).all()


def test_a_column_of_zeros() -> None:
    given = data("stackloss")
    found = warned(least_squares(np.c_[given.X, np.zeros(21)], given.y), "DFBETAS of weight[4]")
    close(found.dfbetas[:, :4], uw.statistics(least_squares(given.X, given.y)).dfbetas)


def test_no_fit_at_all_is_told() -> None:
    given = data("stackloss")
    theta = solved(given.X, given.y)
    theta[-1] += 1
    with pytest.warns(NotStationaryWarning, match="θ is 1.3 standard errors from its minimum"):
        uw.statistics(objective(given.X, given.y, theta))


def test_what_has_no_measures_is_refused_with_the_mend() -> None:
    given = data("stackloss")
    two = (given.X, (given.y > 15).astype(int))
    layer = nn.Linear(4, 2, dtype=torch.float64)
    cases = [
        (uw.Objective(layer, uw.losses.CrossEntropy(), two), "CrossEntropy: fit one class against the rest"),
        (uw.Objective(nn.Linear(4, 1, dtype=torch.float64), uw.losses.SquaredHinge(), two), "SquaredHinge: a hinge"),
        (
            uw.Objective(nn.Linear(4, 1, dtype=torch.float64), lambda m, b: m(b[0])[:, 0] ** 2, two),
            "Function: write it as one of these",
        ),
        (
            uw.Objective(layer, uw.losses.SquaredError(), (given.X, np.c_[given.y, given.y])),
            r"outputs \(21, 2\): fit and give one output",
        ),
        (
            uw.Objective(
                nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1)).double(),
                uw.losses.SquaredError(),
                (given.X, given.y),
            ),
            "Sequential aren't linear in θ",
        ),
    ]
    for given_objective, words in cases:
        with pytest.raises(InputError, match=words):
            uw.statistics(given_objective)
    negative = objective(given.X, given.y, np.array([0, 0, 0, 5.0]), HalfDeviance(3.0))
    with pytest.raises(InputError, match="information: got 'observed', which is negative in 21 rows of a inverse Gaus"):
        uw.statistics(negative)


def test_arguments_are_refused_by_name() -> None:
    given = data("stackloss")
    sound = least_squares(given.X, given.y)
    estimator = LinearRegression().fit(given.X, given.y)
    cases = [
        (lambda: uw.statistics(sound, information="fisher"), "information: one of 'observed', 'expected'"),
        (lambda: uw.statistics(sound, given.X), "X: an Objective has its own"),
        (lambda: uw.statistics(sound, sample_weight=given.weights), "sample_weight: an Objective has its own"),
        (lambda: uw.statistics(estimator), "X: got None; give the X and y that LinearRegression was fitted on"),
        (lambda: uw.statistics(estimator, given.X), "y: got None"),
        (
            lambda: uw.statistics(given.X, given.X, given.y),
            "model: got ndarray; give an upweight.Objective or a fitted",
        ),
        (lambda: uw.statistics(sound, names=["a"]), "names: give 4, one for each parameter .* got 1"),
        (lambda: uw.statistics(sound, names="abcd"), "names: give a list, or None; got 'abcd'"),
        (lambda: uw.statistics(sound, names=list("abca")), "names: must differ; 'a' stands 2 times"),
        (lambda: uw.statistics(sound).figure("leverage"), "measure: one of 'hat', .* got 'leverage'"),
    ]
    for call, words in cases:
        with pytest.raises(InputError, match=words):
            call()


def test_names_of_rows_and_parameters() -> None:
    frame = pd.DataFrame({"size": [1.0, 2, 3, 5, 8, 9], "kind": list("aabbab")}, index=list("uvwxyz"))
    y = np.array([1.0, 2, 2, 4, 5, 9])
    scaled = make_pipeline(StandardScaler(), LinearRegression()).fit(frame[["size"]], y)
    found = uw.statistics(scaled, frame[["size"]], y)
    assert found.names == ("size", "intercept")
    assert found.to_pandas().index.tolist() == list("uvwxyz")
    encoded = make_pipeline(OneHotEncoder(drop="first", sparse_output=False), Ridge()).fit(frame[["kind"]], y)
    assert uw.statistics(encoded, frame[["kind"]], y).names == ("kind_b", "intercept")
    named = frame[["size"]].rename(columns={"size": "intercept"})
    assert uw.statistics(LinearRegression().fit(named, y), named, y).names == ("intercept", "(intercept)")
    assert uw.statistics(scaled, frame[["size"]], y, names=["a", "b"]).to_pandas().columns[-1] == "dfb_b"
    own = uw.statistics(scaled, frame[["size"]], y, ids=range(10, 16))
    assert own.to_pandas().index.tolist() == list(range(10, 16))


def test_the_result_says_what_it_is() -> None:
    given = data("longley")
    found = uw.statistics(least_squares(given.X, given.y))
    words = repr(found)
    assert words.startswith("Statistics [16] of least squares: 7 parameters (7 effective), 9 degrees of freedom left")
    assert re.search(r"Cook's distance: 4 \(0\.614\), 15 \(0\.467\), 3 \(0\.244\); 2 beyond 0\.25", words)
    assert list(found.to_pandas().columns[:6]) == [name for name in MEASURES if name != "dfbetas"]
    ridge = uw.statistics(Ridge().fit(given.X, given.y), given.X, given.y)
    assert "penalised least squares" in repr(ridge)
    assert ridge.effective_parameters < 7
    two = LogisticRegression(tol=1e-8).fit(given.X[:, 5:6] - 1954, given.y > 65000)
    assert uw.statistics(two, given.X[:, 5:6] - 1954, given.y > 65000).family == "penalised logistic regression"
    counts = PoissonRegressor(alpha=0, tol=1e-9).fit(given.X[:, 5:6] - 1954, np.arange(16))
    assert "Poisson" in uw.statistics(counts, given.X[:, 5:6] - 1954, np.arange(16)).family


def test_every_measure_has_a_figure() -> None:
    given = data("stackloss")
    dummy = np.zeros(21)
    dummy[7] = 1
    with pytest.warns(UpweightWarning, match="leverage 1"):
        found = uw.statistics(least_squares(np.c_[given.X, dummy], given.y, ids=[f"${i}" for i in range(21)]))
    words = texts(found.figure(title="t"))
    assert "t" in words
    assert "$20" in words
    assert any("1 not defined, left out" in word for word in words)
    for column in found.to_pandas():
        assert isinstance(found.figure(column), Figure)
    assert any("21 · " in word for word in texts(found.figure("hat")))
    assert any("DFBETAS of weight[0]" in word for word in texts(found.figure("dfb_weight[0]")))


def test_information_says_which_curvature() -> None:
    _, fitted = glm("scotland")
    observed, expected = (uw.statistics(fitted, information=word) for word in ("observed", "expected"))
    assert np.abs(observed.hat - expected.hat).max() > 1e-4
    by_influence = leverages(fitted, uw.Influence(fitted, uw.inverse.Dense(damping=0)).solve)
    close(observed.hat, by_influence.numpy(), 1e-6)
