"""`upweight explain` and `upweight verify`, on a CSV and on a study file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import upweight as uw
from upweight.cli.sources import open_source

from .conftest import Planted, Run, assert_self_contained

Ask = Callable[..., dict[str, Any]]

STUDY = """
import torch
from sklearn.datasets import load_iris
import upweight as uw
from upweight.retraining import fit
from upweight.study import Study

def study():
    features, labels = load_iris(return_X_y=True)
    model = torch.nn.Linear(4, 3, dtype=torch.float64)
    objective = fit(uw.Objective(model, uw.losses.CrossEntropy(), (features, labels), l2=0.01))
    pictures = features.reshape(-1, 2, 2)
    return Study(objective, (features[:60], labels[:60]), class_names=["a", "b", "c"], images=pictures,
                 query_images=pictures[:60])
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "my_study.py"
    path.write_text(STUDY)
    return path


def test_explains_a_wrong_held_out_row(cancer: Planted, answer: Ask) -> None:
    found = answer("explain", cancer.path, "-t", "target", "--top", 3)
    query = found["query"]
    assert query["label"] != query["predicted"]
    assert query["row"] in cancer.errors  # the hardest row is one of the planted errors
    helpful, harmful = found["helpful"], found["harmful"]
    assert [len(helpful), len(harmful)] == [3, 3]
    assert all(example["score"] > 0 for example in helpful)
    assert all(example["score"] < 0 for example in harmful)
    assert helpful[0]["label"] == query["label"]
    assert harmful[0]["label"] == query["predicted"]
    assert helpful[0]["values"]["target"] == helpful[0]["label"]
    assert_self_contained(Path(found["files"]["report"]))


def test_row_is_held_out_and_explained(iris: Planted, answer: Ask) -> None:
    found = answer("explain", iris.path, "-t", "target", "--row", 7)
    assert found["query"]["row"] == 7
    assert 7 not in {example["row"] for example in found["helpful"] + found["harmful"]}


def test_table_fits_80_columns(cancer: Planted, run: Run) -> None:
    result = run("explain", cancer.path, "-t", "target")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "predicted change of the query's loss" in " ".join(result.stdout.split())


def test_verify_agrees_with_retraining(cancer: Planted, answer: Ask, run: Run) -> None:
    found = answer("verify", cancer.path, "-t", "target", "--k", 10)
    assert found["agreement"]["pairs"] == 10
    assert found["agreement"]["pearson"] > 0.99
    assert found["agreement"]["slope"] == pytest.approx(1, abs=0.2)
    assert found["agreement"]["gradient_norm"] < 1e-8
    assert_self_contained(Path(found["files"]["report"]))
    assert Path(found["files"]["figure"]).read_bytes().startswith(b"\x89PNG")


def test_study_file_is_explained_with_pictures(study: Path, answer: Ask, run: Run) -> None:
    found = answer("explain", study, "--query", 51, "--top", 2)
    assert found["query"]["example"] == 51
    assert found["query"]["label"] == "b"
    assert found["helpful"][0]["label"] == "b"
    assert "data:image/png" in Path(found["files"]["report"]).read_text()
    shown = run("explain", study)
    assert shown.exit_code == 0, shown.output


def test_study_file_is_verified(study: Path, run: Run) -> None:
    result = run("verify", study, "--query", 51, "--k", 5, "--top", 2)
    assert result.exit_code == 0, result.output
    assert "Pearson" in result.stdout


BAD_STUDIES = {
    "no study": ("x = 1\n", "defines no 'study'"),
    "wrong type": ("def study():\n    return 3\n", "study gives int"),
    "wrong tuple": ("study = (1, 2)\n", "objective: got int"),
    "syntax": ("def study(:\n    pass\n", "line 1"),
    "raises": ("def study():\n    numbers = []\n    return numbers[4]\n", "line 3, in study: IndexError"),
    "raises on import": ("import not_a_module_of_mine\n", "line 1, in <module>: ModuleNotFoundError"),
    "exits": ("raise SystemExit(3)\n", "SystemExit: 3"),
}


@pytest.mark.parametrize("name", BAD_STUDIES)
def test_bad_study_is_one_clear_error(name: str, run: Run, tmp_path: Path) -> None:
    content, message = BAD_STUDIES[name]
    (tmp_path / "bad.py").write_text(content)
    result = run("explain", "bad.py", "--json")
    assert result.exit_code == 1
    assert message in json.loads(result.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["nowhere.py"], 1, "there is no such file"),
        (["my_study.py", "--query", 60], 1, "has queries 0 … 59"),
        (["my_study.py", "--target", "y"], 2, "--target and --row are for CSV files"),
        (["table.csv"], 2, "say which column holds the class"),
        (["table.csv", "--target", "y", "--query", 1], 2, "--query is for study files"),
    ],
)
def test_wrong_options_say_so(options: list[object], code: int, message: str, study: Path, run: Run) -> None:
    result = run("explain", *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_row_without_target_is_refused(iris: Planted, run: Run) -> None:
    result = run("explain", iris.path, "-t", "target", "--row", 150)
    assert result.exit_code == 1
    assert "has no row 150" in result.stderr


def test_warnings_are_notes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "untrained.py").write_text(STUDY.replace("fit(uw.", "(uw."))
    result = run("explain", "untrained.py", "--query", 0)
    assert result.exit_code == 0
    assert "note: θ is not at an optimum" in result.stdout
    told = json.loads(run("explain", "untrained.py", "--query", 0, "--json").stdout)["warnings"]
    assert len(told) == 1


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_high_leverage_are_predicted_at_their_size(seed: int, answer: Any, tmp_path: Path) -> None:
    """Four rows lie far out in a column that says nothing: without them the model moves by more than its gradient."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(80, 3))
    y = x @ [1.5, -1, 0] + random.logistic(size=80) > 0
    x[:4, 2], y[:4] = [12, -9, 15, 8], [True, False, False, True]
    path = tmp_path / "outliers.csv"
    pd.DataFrame(x, columns=list("abc")).assign(y=np.where(y, "yes", "no")).to_csv(path, index=False)
    found = answer("verify", path, "-t", "y", "-k", "20")
    assert found["agreement"]["slope"] == pytest.approx(1, abs=0.1)
    assert "leverage" in found["quantity"]["name"]
    opened = open_source(path, "y", None, None, 0)
    plain = uw.Influence(opened.objective).verify(opened.queries.take([opened.query()]), 20)
    assert abs(plain.slope - 1) > abs(found["agreement"]["slope"] - 1)
    explained = answer("explain", path, "-t", "y")
    assert explained["quantity"] == found["quantity"]


def drawn(seed: int) -> tuple[pd.DataFrame, int]:
    """A table of some kind of difficulty, and a row of it: outliers, heavy tails, classes (nearly) apart, few rows."""
    random = np.random.default_rng(seed)
    n, width = int(random.integers(30, 160)), int(random.integers(2, 8))
    x = random.normal(size=(n, width))
    kind = ("outliers", "heavy", "apart", "nearly", "rare", "three")[seed % 6]
    if kind == "heavy":
        x[:, ::2] = random.standard_t(1.5, size=x[:, ::2].shape)
    far = random.choice(n, 3, replace=False)
    if kind == "outliers":
        x[far, 0] = random.normal(size=3) * 15
    z = x @ random.normal(size=width) * 3
    noise = 0 if kind == "apart" else random.logistic(size=n) * (0.2 if kind == "nearly" else 1.5)
    y = z + noise > np.quantile(z, 0.85 if kind == "rare" else 0.5)
    if kind == "outliers":
        y[far] = ~y[far]
    for label in (True, False):
        y[np.flatnonzero(y != label)[: max(6 - int((y == label).sum()), 0)]] = label
    words = np.where(y, np.where(x[:, 1] > 0, "c", "b") if kind == "three" else "b", "a")
    frame = pd.DataFrame(x.round(4), columns=[f"c{i}" for i in range(width)]).assign(y=words)
    frame.loc[frame["y"].isin([w for w, count in frame["y"].value_counts().items() if count < 6]), "y"] = "a"
    return frame, int(random.integers(n))


@pytest.mark.parametrize("seed", range(12))
def test_of_any_table_the_slope_is_one_without_a_warning(seed: int, answer: Ask, tmp_path: Path) -> None:
    """One Newton step was off by more than a tenth for 30 of 210 queries of such tables."""
    frame, row = drawn(seed)
    frame.to_csv(tmp_path / "drawn.csv", index=False)
    found = answer("verify", "drawn.csv", "-t", "y", "-k", 12, "--row", row)
    assert found["agreement"]["slope"] == pytest.approx(1, abs=0.02)
    assert found["warnings"] == []


def test_one_row_that_holds_a_direction_alone_is_predicted_by_its_refit(answer: Ask, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=(80, 2))
    y = x[:, 0] + random.logistic(size=80) > 0
    x[7, 1], y[7] = 15.0, True
    path = tmp_path / "outlier.csv"
    pd.DataFrame(x, columns=list("ab")).assign(y=np.where(y, "yes", "no")).to_csv(path, index=False)
    pairs = {pair["id"]: pair for pair in answer("verify", path, "-t", "y", "-k", 20)["pairs"]}
    assert pairs[7]["predicted"] == pytest.approx(pairs[7]["actual"], rel=1e-3)


def test_a_slope_that_is_off_is_told_with_its_widest_gap(
    cancer: Planted, answer: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upweight.cli.leverage.AFFORDABLE", 1.0)
    monkeypatch.setattr("upweight.cli.verify.ALLOWED", 1e-9)
    (_, told) = answer("verify", cancer.path, "-t", "target", "-k", 5)["warnings"]
    assert re.search(r"slope [\d.]+, where 1 says .* widest gap: without row \d+ \S+ was predicted, \S+ is", told)


def test_where_dividing_leverage_out_would_take_too_long_a_warning_says_so(
    iris: Planted, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upweight.cli.leverage.AFFORDABLE", 1e3)
    found = answer("explain", iris.path, "-t", "target")
    assert "leverage" not in found["quantity"]["name"]
    assert any("dividing it out would take" in words for words in found["warnings"])


def test_rows_are_told_by_their_lines_in_every_command(
    answer: Callable[..., dict[str, Any]], run: Run, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60).round(2), "z": random.choice(["a", "b"], 60)})
    frame["y"] = np.where(frame["x"] + random.normal(size=60) > 0, "up", "down")
    lines = frame.to_csv(index=False).splitlines()
    (tmp_path / "gaps.csv").write_text("\n".join([*lines[:11], "", "", *lines[11:]]))  # two blank lines

    def line(row: int) -> int:
        return row + 2 + 2 * (row >= 10)

    found = answer("explain", "gaps.csv", "-t", "y", "--row", 30)
    assert found["query"]["line"] == 34
    for each in found["helpful"] + found["harmful"]:
        assert each["line"] == line(each["row"])
    listed = pd.read_csv(tmp_path / "upweight-report" / "explain.csv")
    assert listed["line"].tolist() == [line(row) for row in listed["row"]]
    page = Path(found["files"]["report"]).read_text()
    assert "row 30 (line 34)" in page
    assert re.search(r"Most helpful was row (\d+) \(line (\d+)\)", page)
    assert "line" in run("explain", "gaps.csv", "-t", "y", "--row", 30, "-o", "again").stdout

    found = answer("domain-mismatch", "gaps.csv", "-t", "y", "--group", "z == 'a'", "--row", 30, "--row", 31)
    assert [each["line"] for each in found["queries"]] == [34, 35]
    assert all(each["line"] == line(each["id"]) for each in found["top"])
    listed = pd.read_csv(tmp_path / "upweight-report" / "domain-mismatch.csv")
    assert listed["line"].tolist() == [line(row) for row in listed["row"]]

    found = answer("label-errors", "gaps.csv", "-t", "y")
    assert all(each["line"] == line(each["id"]) for each in found["top"])
    answer("select", "gaps.csv", "-t", "y", "-k", 5)
    listed = pd.read_csv(tmp_path / "upweight-report" / "select.csv")
    assert listed["line"].tolist() == [line(row) for row in listed["row"]]
    found = answer("verify", "gaps.csv", "-t", "y", "--row", 30, "-k", 2)
    assert '<th scope="col" class="number">line</th>' in Path(found["files"]["report"]).read_text()
