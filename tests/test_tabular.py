"""Tables become designs, and logistic models at their optimum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from upweight.tabular import LabelledTable, encoder, read_labelled, sorted_columns, source_columns, train_logistic
from upweight.tabular.columns import prepared


def people(n: int = 300, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    age = random.normal(40, 10, n)
    town = random.choice(["Ulm", "Bonn", "Jena"], n, p=[0.6, 0.38, 0.02])
    rich = (age + 15 * (town == "Ulm") + random.normal(0, 8, n)) > 50
    frame = pd.DataFrame({"id": np.arange(n) + 100, "name": [f"person {i}" for i in range(n)], "age": age})
    frame.loc[random.choice(n, 30, replace=False), "age"] = np.nan
    return frame.assign(town=town, member=random.random(n) < 0.5, country="DE", rich=np.where(rich, "yes", "no"))


@pytest.fixture
def table(tmp_path: Path) -> LabelledTable:
    people().to_csv(tmp_path / "people.csv", index=False)
    return read_labelled(tmp_path / "people.csv", "rich")


def test_columns_are_sorted_with_reasons(table: LabelledTable) -> None:
    columns = sorted_columns(table.features)
    assert columns.numeric == ("age",)
    assert columns.categorical == ("town", "member")
    assert columns.dropped["id"] == "it counts the rows"
    assert "text or an identifier" in columns.dropped["name"]
    assert "one value only ('DE')" in columns.dropped["country"]


def test_missing_numbers_are_at_the_median_and_say_so(table: LabelledTable) -> None:
    columns = sorted_columns(table.features)
    transformer = encoder(columns)
    design = transformer.fit_transform(prepared(table.features, columns))
    names = list(transformer.get_feature_names_out())
    assert np.isfinite(design).all()
    missing = table.features["age"].isna().to_numpy()
    indicator = design[:, names.index("missingindicator_age")]
    assert (indicator[missing] > 0).all()
    assert (indicator[~missing] < 0).all()
    assert len(set(design[missing, names.index("age")])) == 1
    assert source_columns(transformer, columns)[names.index("town=Ulm")] == "town"


def test_unseen_and_infinite_values_are_handled(table: LabelledTable) -> None:
    columns = sorted_columns(table.features)
    transformer = encoder(columns).fit(prepared(table.features, columns))
    new = pd.DataFrame({"age": [np.inf, 30.0], "town": ["Rome", None], "member": [True, None]})
    design = transformer.transform(prepared(new, columns))
    assert np.isfinite(design).all()


def test_model_is_at_the_optimum_that_scikit_learn_finds(table: LabelledTable) -> None:
    model = train_logistic(table)
    objective = model.objective
    assert float(objective.gradient().norm()) <= 1e-9
    design, labels = model.queries(table)
    reference = LogisticRegression(C=1 / (model.validation.l2 * len(labels)), tol=1e-10, max_iter=5000)
    reference.fit(design, labels)
    found = objective.outputs().numpy()[:, 0]
    assert np.allclose(found, reference.decision_function(design), atol=1e-3)
    assert model.validation.accuracy > model.validation.baseline
    assert model.weightiest_columns(design[0], 2)[0] in ("age", "town", "member")


def test_rows_without_target_are_left_out_and_keep_names(tmp_path: Path) -> None:
    frame = people(60)
    frame.loc[[3, 5], "rich"] = None
    frame.to_csv(tmp_path / "a.csv", index=False, sep=";")
    table = read_labelled(tmp_path / "a.csv", "rich")
    assert table.notes == ("2 of 60 rows have no 'rich' and were left out",)
    assert 3 not in table.rows
    assert 4 in table.rows
    assert len(table) == 58


def test_whole_number_classes_are_named_without_point(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(40) % 9, "y": [0.0, 1.0] * 19 + [None, None]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert read_labelled(tmp_path / "a.csv", "y").classes == ("0", "1")


def test_three_classes_train_a_softmax(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(90, 2))
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(y=random.choice(["p", "q", "r"], 90))
    frame.to_csv(tmp_path / "a.csv", index=False)
    objective = train_logistic(read_labelled(tmp_path / "a.csv", "y")).objective
    assert objective.outputs().shape == (90, 3)
    assert float(objective.gradient().norm()) <= 1e-9
