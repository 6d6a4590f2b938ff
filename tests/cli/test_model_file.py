"""A fitted pipeline of one's own with its table: `upweight explain model.joblib data.csv --trust`, and label errors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import upweight as uw
from upweight.cli.leverage import NEWTON_STEPS

from .conftest import Run

Ask = Callable[..., dict[str, Any]]
N = 60


class Bomb:
    """Were it loaded, a folder of this name would be there; it does no harm."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("loaded",)


def table(count: int = N, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"width": random.normal(size=count), "place": random.choice(["?", "Bonn", "Rom"], count)})
    frame["kind"] = np.where(frame["width"] + (frame["place"] == "Rom") > 0, "no", "yes")
    frame["unused"] = "same"
    return frame


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path, Any]:
    """A pipeline on text that our own reader would take for a gap, its classes in no order of the alphabet."""
    frame = table()
    frame.loc[7, "kind"] = "yes" if frame.loc[7, "kind"] == "no" else "no"
    frame.to_csv(tmp_path / "data.csv", index=False)
    columns = make_column_transformer((StandardScaler(), ["width"]), (OneHotEncoder(), ["place"]))
    fitted = make_pipeline(columns, LogisticRegression(tol=1e-10)).fit(frame[["place", "width"]], frame["kind"])
    joblib.dump(fitted, tmp_path / "model.joblib")
    return tmp_path / "model.joblib", tmp_path / "data.csv", fitted


def refusal(run: Run, *words: object) -> str:
    result = run(*words, "--json")
    assert result.exit_code == 1
    return str(json.loads(result.stdout)["error"]["message"])


def test_scores_are_those_of_the_fitted_pipeline(saved: tuple[Path, Path, Any], answer: Ask) -> None:
    model, data, fitted = saved
    found = answer("explain", model, data, "--trust", "-t", "kind", "--row", 7, "-n", 3)
    frame = pd.read_csv(data)
    objective = uw.from_estimator(fitted, frame[["place", "width"]], frame["kind"])
    corrected = {"leverage_corrected": True, "newton_steps": NEWTON_STEPS}  # as of every table
    expected = uw.Influence(objective).attribute(objective.data.take([7]), **corrected).top(3)
    assert [each["row"] for each in found["helpful"]] == expected.positions[0].tolist()
    assert [each["score"] for each in found["helpful"]] == pytest.approx(expected.scores[0].tolist())
    assert found["query"]["label"] == frame.loc[7, "kind"]
    assert any("fitted on; --test FILE" in note for note in found["notes"])
    assert found["columns"] == {"unused": {"taken_for": "dropped", "reason": "model.joblib doesn't take it"}}


def test_rows_of_another_file_are_asked_about(saved: tuple[Path, Path, Any], answer: Ask, tmp_path: Path) -> None:
    model, data, fitted = saved
    table(12, seed=1).to_csv(tmp_path / "new.csv", index=False)
    found = answer("explain", model, data, "--trust", "-t", "kind", "--test", tmp_path / "new.csv", "--row", 4)
    assert found["query"]["values"]["kind"] == table(12, seed=1).loc[4, "kind"]
    assert found["query"]["predicted"] == fitted.predict(table(12, seed=1)[["place", "width"]])[4]
    assert not any("--test FILE" in note for note in found["notes"])


def test_label_errors_of_a_pipeline_name_the_planted_one(saved: tuple[Path, Path, Any], answer: Ask) -> None:
    model, data, _ = saved
    found = answer("label-errors", model, data, "--trust", "-t", "kind", "-n", 3)
    assert found["top"][0]["id"] == 7
    mended = pd.read_csv(found["files"]["with suggested labels"])
    assert mended.loc[7, "kind"] == found["top"][0]["suggested"] == table().loc[7, "kind"]


def test_a_regression_fitted_on_an_array(answer: Ask, run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(40, 2)), columns=["a", "b"])
    frame["y"] = frame["a"] + np.where(np.arange(40) == 9, 8.0, 0.0)
    frame.to_csv(tmp_path / "data.csv", index=False, sep=";")
    joblib.dump(Ridge().fit(frame[["a", "b"]].to_numpy(), frame["y"]), tmp_path / "ridge.pkl")
    found = answer("label-errors", "ridge.pkl", "data.csv", "--trust", "-t", "y")
    assert found["top"][0]["id"] == 9
    frame.assign(c=1).to_csv(tmp_path / "more.csv", index=False)
    assert "was fitted on 2 columns without names" in refusal(
        run, "label-errors", "ridge.pkl", "more.csv", "--trust", "-t", "y"
    )


def test_nothing_is_loaded_without_trust(run: Run, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "data.csv", index=False)
    joblib.dump(Bomb(), tmp_path / "bomb.joblib")
    for command in ("explain", "label-errors"):
        said = refusal(run, command, "bomb.joblib", "data.csv", "-t", "kind")
        assert "run whatever code they hold" in said
        assert "--trust" in said
    assert not (tmp_path / "loaded").exists()


TRAINING = {
    "--drop": "width",
    "--columns": "width",
    "--group": "place",
    "--task": "classification",
    "--model": "mlp",
    "--estimator": "mine:made",
}


@pytest.mark.parametrize("option", TRAINING)
def test_what_says_how_to_train_is_refused(saved: tuple[Path, Path, Any], run: Run, option: str) -> None:
    model, data, _ = saved
    said = refusal(run, "explain", model, data, "--trust", "-t", "kind", option, TRAINING[option])
    assert f"{option}: is for training a model" in said


def test_what_does_not_fit_is_refused(saved: tuple[Path, Path, Any], run: Run, tmp_path: Path) -> None:
    model, data, _ = saved
    asked = ("--trust", "-t", "kind")
    assert "give the table that it was fitted on" in refusal(run, "explain", model, *asked)
    assert "with --target COLUMN" in refusal(run, "explain", model, data, "--trust")
    assert "a second file goes with a model" in refusal(run, "label-errors", data, data, "-t", "kind")
    assert "--trust: is for a model's file" in refusal(run, "label-errors", data, *asked)
    pd.concat([table(), table().assign(kind="maybe")]).to_csv(tmp_path / "other.csv", index=False)
    assert "which model.joblib doesn't know; its classes are 'no', 'yes'" in refusal(
        run, "explain", model, "other.csv", *asked
    )
    table().drop(columns="place").to_csv(tmp_path / "less.csv", index=False)
    assert "has no column 'place', which model.joblib takes" in refusal(run, "explain", model, "less.csv", *asked)
    (tmp_path / "torn.joblib").write_bytes(model.read_bytes()[:50])
    assert "can't be loaded" in refusal(run, "explain", "torn.joblib", data, *asked)
    joblib.dump([1], tmp_path / "list.joblib")
    assert "holds list; save a fitted" in refusal(run, "explain", "list.joblib", data, *asked)
    forest = RandomForestClassifier(2).fit(table()[["width"]], table()["kind"])
    joblib.dump(forest, tmp_path / "forest.joblib")
    message = refusal(run, "explain", "forest.joblib", data, *asked)
    assert message.startswith("forest.joblib: RandomForestClassifier can't be explained: ensembles of trees have no")
    for step in (LogisticRegression(), Ridge()):
        joblib.dump(make_pipeline(StandardScaler(), step), tmp_path / "unfit.joblib")
        message = refusal(run, "explain", "unfit.joblib", data, *asked)
        assert f"unfit.joblib: its {type(step).__name__} is not fitted; call fit(X, y) and save it again" in message
    message = refusal(run, "explain", model, data, "--trust", "-t", "width")
    assert "model.joblib tells classes apart: name the column that it was fitted on" in message
    assert "--task" not in message
    joblib.dump(Ridge().fit(table()[["width"]], table()["width"]), tmp_path / "ridge.joblib")
    message = refusal(run, "explain", "ridge.joblib", data, *asked)
    assert "ridge.joblib is of numbers: name the column that it was fitted on" in message


def test_a_regression_on_standardised_targets_is_told_in_those_of_the_file(answer: Ask, tmp_path: Path) -> None:
    frame = table()[["width"]].assign(price=lambda frame: (1000 + 50 * frame["width"] + np.arange(N) % 7).round(2))
    frame.to_csv(tmp_path / "prices.csv", index=False)
    fitted = TransformedTargetRegressor(Ridge(), transformer=StandardScaler()).fit(frame[["width"]], frame["price"])
    joblib.dump(fitted, tmp_path / "prices.joblib")
    arguments = ("prices.joblib", "prices.csv", "--target", "price", "--trust")
    rows = answer("label-errors", *arguments)["top"]
    assert [row["given"] for row in rows] == frame["price"][[row["id"] for row in rows]].tolist()
    query = answer("explain", *arguments, "--row", 5, "--test", "prices.csv", "--force")["query"]
    assert query["value"] == frame["price"][5]
    assert query["predicted"] == pytest.approx(fitted.predict(frame[["width"]])[5])
    assert query["loss"] == pytest.approx(0.5 * (query["value"] - query["predicted"]) ** 2)
