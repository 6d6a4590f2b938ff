"""Quantities, weights, groups, dates, text and models of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from upweight import Influence
from upweight.errors import InputError
from upweight.estimators import from_estimator, prepare
from upweight.tabular import Aside, Choice, LabelledTable, held_out, read_labelled, train
from upweight.tabular.choice import near_names
from upweight.tabular.fitted import imported_estimator
from upweight.tabular.folds import folds
from upweight.tasks import target_errors

WORDS = ["red", "green", "blue", "house", "garden", "street", "big", "small", "old", "new", "near", "station"]
N = 120


def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, N))
    text = [" ".join(random.choice(WORDS, 5)) for _ in range(N)]
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 2000, N), unit="D")
    price = 3 + 2 * a - b + np.array(["red" in each for each in text]) + 0.3 * random.normal(size=N)
    frame = pd.DataFrame({"a": a, "b": b, "note": text, "day": days.strftime("%d.%m.%Y"), "price": price})
    frame["kind"] = np.where(price > 3, "dear", "cheap")
    return frame.assign(w=random.integers(0, 4, N), who=random.integers(0, 12, N))


def read(tmp_path: Path, target: str, frame: pd.DataFrame | None = None, **options: object) -> LabelledTable:
    (table() if frame is None else frame).to_csv(tmp_path / "a.csv", index=False)
    return read_labelled(tmp_path / "a.csv", target, **options)  # type: ignore[arg-type]


def test_a_quantity_is_a_ridge_as_scikit_learn_fits_it(tmp_path: Path) -> None:
    given = read(tmp_path, "price", choice=Choice(drop=("kind",)), aside=Aside("w", "who"))
    assert not given.classifies
    assert "taken as a quantity" in given.notes[-1]
    model = train(given)
    design, target = model.queries(given)
    reference = Ridge(alpha=model.validation.l2 * N, tol=1e-12).fit(design, target, sample_weight=given.weights)  # type: ignore[operator]
    assert np.allclose(model.objective.outputs().numpy()[:, 0], reference.predict(design), atol=1e-10)
    assert float(model.objective.gradient().norm()) < 1e-10
    assert model.validation.r2 > 0.8  # type: ignore[union-attr]


def test_target_errors_are_those_of_refits_without_each_row(tmp_path: Path) -> None:
    """To the digit: the oracle of the leverage formula, in float64."""
    given = read(tmp_path, "price", choice=Choice(only=("a", "b")))
    model = train(given)
    design, target = model.queries(given)
    assert model.validation.l2 is not None
    found = target_errors(model.objective)
    for row in (0, 7, 50):
        # The other rows keep their weight 1/n, so that alpha stays λn.
        kept = np.arange(N) != row
        refit = Ridge(alpha=model.validation.l2 * N, solver="cholesky").fit(design[kept], target[kept])
        assert float(found.suggested[row]) == pytest.approx(float(refit.predict(design[[row]])[0]), abs=1e-9)
    wrong = np.zeros(N, dtype=bool)
    wrong[found.order[:6]] = True
    assert found.recovery(wrong, [0.05])[0] == 1
    assert found.evidence(2, 3).ids.shape == (2, 3)
    assert not set(found.evidence(1, 3).ids[0].tolist()) & {found.attribution.ids[found.order[0]]}


def test_a_planted_shift_comes_first(tmp_path: Path) -> None:
    frame = table()
    frame.loc[17, "price"] += 9
    found = target_errors(train(read(tmp_path, "price", frame, choice=Choice(drop=("kind",)))).objective)
    assert found.top(1)["id"].tolist() == [17]
    assert found.is_suspicious[17]
    assert "17" in found._repr_html_()


def test_target_errors_refuse_classifiers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tasks\.label_errors takes classifiers"):
        target_errors(train(read(tmp_path, "kind")).objective)


def test_weights_are_those_of_the_fit(tmp_path: Path) -> None:
    given = read(tmp_path, "kind", choice=Choice(only=("a", "b")), aside=Aside("w"))
    model = train(given)
    design, labels = model.queries(given)
    assert model.validation.l2 is not None
    reference = LogisticRegression(C=1 / (model.validation.l2 * N), tol=1e-10, max_iter=5000)
    reference.fit(design, labels, sample_weight=given.weights)
    assert np.allclose(model.objective.outputs().numpy()[:, 0], reference.decision_function(design), atol=1e-3)
    assert "w" not in given.features
    assert given.complete()["w"].tolist() == table()["w"].tolist()


@pytest.mark.parametrize("target", ["kind", "price"])
def test_no_group_is_parted(target: str, tmp_path: Path) -> None:
    given = read(tmp_path, target, aside=Aside(group="who"))
    assert given.groups is not None
    for inner, outer in folds(given, 0):
        assert not set(given.groups[inner]) & set(given.groups[outer])
    out = held_out(given, 0.2, 0)
    assert not set(given.groups[out]) & set(np.delete(given.groups, out))


BAD = {
    "unknown": (Aside("W"), "--weight: the table has no column 'W'; did you mean 'w'"),
    "far": (Aside("nine"), "--weight: the table has no column 'nine'. Its columns are 'a', 'b', 'note'"),
    "part": (Aside("not"), "--weight: the table has no column 'not'; did you mean 'note'?"),
    "target": (Aside(group="kind"), "--group: 'kind' is the target"),
    "text": (Aside("note"), "--weight: column 'note' holds"),
    "negative": (Aside("a"), "weights are finite and 0 or more"),
    "two groups": (Aside(group="half"), "holds 2 groups; 3 or more are needed"),
    "twice": (Aside("w", "w"), "'w' is given to --group too"),
}


def test_only_near_names_are_suggested() -> None:
    names = ["age", "income", "share", "Household size"]
    assert near_names("nope", names).startswith(". Its columns are 'age', 'income'")
    assert near_names("incone", names).startswith("; did you mean 'income'?")
    assert near_names("size", names).startswith("; did you mean 'Household size'?")
    assert near_names("ge", ["age", "gender"]).startswith("; did you mean 'age'?")


@pytest.mark.parametrize("name", BAD)
def test_columns_set_aside_are_checked(name: str, tmp_path: Path) -> None:
    aside, words = BAD[name]
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        read(tmp_path, "kind", table().assign(half=np.arange(N) % 2), aside=aside)


def test_dates_and_text_are_used(tmp_path: Path) -> None:
    given = read(tmp_path, "price", choice=Choice(only=("a", "b", "note", "day")))
    assert given.columns.dates == {"day": "day"}
    assert given.columns.texts == ("note",)
    model = train(given)
    assert {"day: year", "day: weekday", "note: 00"} <= set(model.input_names)
    assert len(model.input_names) == len(model.sources) == len(set(model.input_names))
    without = train(read(tmp_path, "price", choice=Choice(only=("a", "b"))))
    assert model.validation.squared_error < without.validation.squared_error  # type: ignore[union-attr]
    assert given.shown()["day"].tolist()[0] == pd.to_datetime(table()["day"][0], dayfirst=True).strftime("%Y-%m-%d")


def test_the_task_can_be_said(tmp_path: Path) -> None:
    frame = table().assign(grade=np.arange(N) % 7)
    assert read(tmp_path, "grade", frame).classifies
    assert not read(tmp_path, "grade", frame, task="regression").classifies
    with pytest.raises(InputError, match="--task regression needs numbers"):
        read(tmp_path, "kind", frame, task="regression")
    with pytest.raises(InputError, match=r"is infinite in row 5 \(one of 1 such cells\)"):
        read(tmp_path, "price", frame.assign(price=frame["price"].where(np.arange(N) != 5, np.inf)))


def test_classes_of_few_rows_and_near_spellings_are_named(tmp_path: Path) -> None:
    frame = table()
    frame.loc[[3, 4], "kind"] = "Dear"
    frame.loc[9, "kind"] = "free"
    given = read(tmp_path, "kind", frame)
    spelled, rare = given.notes
    assert spelled.startswith("classes 'Dear' (2) and 'dear' (")
    assert "'Dear' (2), 'free' (1)" in rare
    model = train(given)
    assert model.objective.outputs().shape == (N, 4)
    assert 9 not in held_out(given, 0.2, 0)  # the only row of its class is trained on


ESTIMATORS = """
import numpy as np
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def pipeline():
    return make_pipeline(make_column_transformer((StandardScaler(), ["a", "b"])), LogisticRegression(C=3, tol=1e-8))

def raw():
    return LogisticRegression()

def trees():
    return HistGradientBoostingClassifier()

def number():
    return 3

def boom():
    raise RuntimeError("of mine\\nwith more")

class Stubborn(StandardScaler):  # it fails to fit, or to give the rows of a fold
    def __init__(self, at="fit"):
        super().__init__()
        self.at = at
    def fit(self, X, y=None, sample_weight=None):
        if self.at == "fit":
            raise MemoryError
        return super().fit(X, y)
    def transform(self, X, copy=None):
        if self.at == "transform" and len(X) < 60:
            raise OSError("of a fold")
        return super().transform(X)

def stubborn():
    return make_pipeline(make_column_transformer((Stubborn(), ["a", "b"])), LogisticRegression())

def scaled(network=None):
    return make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "b"])),
        TransformedTargetRegressor(network or Ridge(alpha=3.0), transformer=StandardScaler()),
    )

def scaled_network():
    options = {"activation": "tanh", "solver": "lbfgs", "alpha": 1.0, "tol": 1e-9, "random_state": 0}
    return scaled(MLPRegressor(hidden_layer_sizes=(3,), max_iter=2000, **options))

def scaled_without_intercept():
    return scaled(Ridge(fit_intercept=False))

def logarithm():
    ridge = make_pipeline(make_column_transformer((StandardScaler(), ["a", "b"])), Ridge())
    return TransformedTargetRegressor(ridge, func=np.log, inverse_func=np.exp)

def late():
    return make_pipeline(make_column_transformer((Stubborn("transform"), ["a", "b"])), LogisticRegression())
"""
REFUSED = {
    "raw": r"fitting failed \(ValueError: could not convert string.*\)\. It gets the columns as they are read",
    "boom": r"mine_of_tests:boom failed \(RuntimeError: of mine\)$",
    "stubborn": r"fitting failed \(MemoryError\)$",
    "late": r"predicting failed \(OSError: of a fold\)$",
    "trees": "HistGradientBoostingClassifier can't be explained: ensembles of trees have no derivatives",
    "number": "returned int; return a scikit-learn estimator",
    "nothing": "has no function 'nothing'; it defines pipeline, raw, trees, number, boom, Stubborn, stubborn, scaled, "
    "scaled_network, scaled_without_intercept …",
    "pipelin": r"has no function 'pipelin'; did you mean 'pipeline'\? It defines pipeline, raw",
}


def test_a_network_that_fails_names_the_option_that_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("no luck.")

    monkeypatch.setattr("sklearn.neural_network.MLPClassifier.fit", fails)
    frame = pd.DataFrame({"a": np.arange(30.0) ** 2 % 7.5, "y": ["a", "b"] * 15})
    with pytest.raises(InputError, match=r"^--model mlp: fitting failed \(ValueError: no luck\)$"):
        train(read(tmp_path, "y", frame), "mlp")


def test_an_estimator_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine_of_tests.py").write_text(ESTIMATORS)
    given = read(tmp_path, "kind")
    model = train(given, estimator="mine_of_tests:pipeline")
    assert model.is_linear
    assert model.objective.p == 3
    assert model.objective.class_names == ("cheap", "dear")
    assert model.validation.accuracy > 0.8  # type: ignore[union-attr]
    for name, words in REFUSED.items():
        with pytest.raises(InputError, match=f"--estimator: .*{words}"):
            train(given, estimator=f"mine_of_tests:{name}")
    with pytest.raises(InputError, match="can't be imported from"):
        train(given, estimator="no_such_module:f")
    with pytest.raises(InputError, match="give module:function"):
        train(given, estimator="pipeline")
    with pytest.raises(InputError, match="are two models"):
        train(given, "mlp", "mine_of_tests:pipeline")


@pytest.mark.parametrize(
    ("target", "model", "words"),
    [("kind", "ridge", "logistic or mlp does"), ("price", "logistic", "ridge or mlp does")],
)
def test_a_model_that_does_not_go_with_the_target(target: str, model: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        train(read(tmp_path, target), model)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
def test_a_network_learns_what_a_line_cannot(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    a, b = random.uniform(-1, 1, (2, 300))
    frame = pd.DataFrame({"a": a, "b": b, "y": np.where(a * b > 0, "p", "q")})
    given = read(tmp_path, "y", frame)
    network, line = train(given, "mlp"), train(given)
    assert network.validation.accuracy > 0.9 > 0.7 > line.validation.accuracy  # type: ignore[union-attr]
    assert set(network.weightiest_columns(network.queries(given)[0][0], 2)) == {"a", "b"}
    assert not network.is_linear


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
@pytest.mark.parametrize("name", ["scaled", "scaled_network", "scaled_without_intercept"])
def test_a_standardised_quantity_is_told_in_its_own_units(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the objective on standardised targets: values by the inverse transformation, losses by its square."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "units_of_tests.py").write_text(ESTIMATORS)
    frame = table()
    frame["price"] = 1000 + 50 * frame["price"]
    given = read(tmp_path, "price", frame, choice=Choice(only=("a", "b")))
    model = train(given, estimator=f"units_of_tests:{name}")
    fitted = clone(imported_estimator(f"units_of_tests:{name}")).fit(given.features, given.labels)
    standard = from_estimator(fitted, given.features, given.labels)
    spread = float(np.std(given.labels))
    assert model.targets is None
    assert model.objective.is_linear == (name == "scaled") or name == "scaled_without_intercept"
    assert np.allclose(model.objective.outputs().numpy()[:, 0], fitted.predict(given.features))
    assert np.allclose(model.objective.losses().numpy(), spread**2 * standard.losses().numpy())
    assert float(model.objective.risk()) == pytest.approx(spread**2 * float(standard.risk()))
    own, other = target_errors(model.objective), target_errors(standard)
    assert np.array_equal(own.given.numpy(), given.labels)
    back = fitted[-1].transformer_.inverse_transform(other.suggested.numpy()[:, None])[:, 0]
    assert np.allclose(own.suggested.numpy(), back, rtol=1e-6)
    assert np.array_equal(own.is_suspicious.numpy(), other.is_suspicious.numpy())
    assert np.allclose(own.attribution.scores.numpy(), spread**2 * other.attribution.scores.numpy(), rtol=1e-5)
    found = Influence(model.objective).attribute(model.queries(given.take(np.arange(3)))).scores
    beside = Influence(standard).attribute(prepare(fitted, given.features[:3], given.labels[:3])).scores
    assert np.allclose(found.numpy(), spread**2 * beside.numpy(), rtol=1e-5, atol=1e-8 * float(found.abs().max()))


def test_a_quantity_whose_logarithm_is_fitted_is_said_to_be_no_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "logarithm_of_tests.py").write_text(ESTIMATORS)
    frame = table().assign(price=lambda frame: np.exp(frame["price"]))
    model = train(
        read(tmp_path, "price", frame, choice=Choice(only=("a", "b"))), estimator="logarithm_of_tests:logarithm"
    )
    assert "losses are of the target as the estimator transforms it" in model.notes[-1]
    assert "not in its own units" in model.notes[-1]
    assert np.allclose(target_errors(model.objective).given.numpy(), np.log(frame["price"]))


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
def test_the_network_of_a_quantity_gives_it_as_the_file_does(tmp_path: Path) -> None:
    frame = table()
    frame["price"] = (1000 + 50 * frame["price"]).round(2)
    given = read(tmp_path, "price", frame, choice=Choice(only=("a", "b")))
    model = train(given, "mlp")
    found = target_errors(model.objective)
    assert found.given.tolist() == frame["price"].tolist()
    assert abs(float(found.suggested.mean()) - frame["price"].mean()) < 20
    assert model.queries(given)[1].tolist() == frame["price"].tolist()
