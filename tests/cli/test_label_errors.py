"""`upweight label-errors` finds planted errors, and refuses what is no classification."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from upweight.cli.layout import spreads_of

from .conftest import Planted, Run, assert_self_contained

Ask = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("name", ["cancer", "iris"])
def test_planted_errors_are_among_the_first(name: str, answer: Ask, request: pytest.FixtureRequest) -> None:
    planted: Planted = request.getfixturevalue(name)
    found = answer("label-errors", planted.path, "--target", "target", "--top", 2 * len(planted.errors))
    assert found["method"] == "out-of-sample"
    assert found["quantity"]["unit"] == "nats"
    listed = planted.errors & {row["id"] for row in found["top"]}
    assert len(listed) >= 0.85 * len(planted.errors)  # 28 of 28 and 6 of 7
    scores = [row["score"] for row in found["top"]]
    assert scores == sorted(scores, reverse=True)
    assert all(len(row["evidence"]) == 3 for row in found["top"])


def test_evidence_bears_the_suggested_label(cancer: Planted, answer: Ask) -> None:
    for row in answer("label-errors", cancer.path, "-t", "target", "--top", 5)["top"]:
        assert {other["label"] for other in row["evidence"]} == {row["suggested"]}
        assert all(other["score"] < 0 for other in row["evidence"])


def test_csv_and_report_hold_every_row(iris: Planted, run: Run, tmp_path: Path) -> None:
    result = run("label-errors", iris.path, "-t", "target", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines()[:-3])) <= 80
    written = pd.read_csv(tmp_path / "out" / "label-errors.csv")
    given = pd.read_csv(iris.path)
    assert sorted(written["row"]) == list(range(len(given)))
    assert (written["given"].to_numpy() == given["target"][written["row"]].to_numpy()).all()
    assert (written["plot"].to_numpy() == given["plot"][written["row"]].to_numpy()).all()
    assert_self_contained(tmp_path / "out" / "label-errors.html")


def test_same_seed_same_answer(iris: Planted, answer: Ask) -> None:
    first, second = (answer("label-errors", iris.path, "-t", "target", "--seed", 3) for _ in range(2))
    assert first["top"] == second["top"]


def test_quiet_prints_only_where_the_results_are(iris: Planted, run: Run, tmp_path: Path) -> None:
    result = run("label-errors", iris.path, "-t", "target", "-q", "-o", tmp_path / "page.html")
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        f"all rows: {tmp_path / 'page.csv'}",
        f"report: {tmp_path / 'page.html'}",
        f"with suggested labels: {tmp_path / 'page.fixed.csv'}",
    ]


def test_the_fixed_file_has_the_suggested_labels_and_nothing_else_changed(iris: Planted, answer: Ask) -> None:
    found = answer("label-errors", iris.path, "-t", "target", "-n", 200)
    given, mended = pd.read_csv(iris.path), pd.read_csv(found["files"]["with suggested labels"])
    suspicious = {row["id"]: row["suggested"] for row in found["top"] if row["suspicious"]}
    assert len(suspicious) == found["suspicious"] > 0
    given["target"] = [suspicious.get(row, label) for row, label in given["target"].items()]
    pd.testing.assert_frame_equal(mended, given)


def test_the_page_begins_with_a_verdict_and_marks_what_differs(cancer: Planted, answer: Ask) -> None:
    found = answer("label-errors", cancer.path, "-t", "target", "-n", 5)
    page = " ".join(Path(found["files"]["report"]).read_text().split())
    first = found["top"][0]
    text = cancer.path.read_text().splitlines()
    line = int(page.split(f"Begin with row {first['id']} (line ")[1].split(" ")[0])
    assert text[line - 1].rsplit(",", 1)[1] == first["given"]
    assert f"it is {first['given']}, and the model says {first['suggested']}" in page
    assert page.index("Begin with") < page.index("<section")
    assert page.count("and what speaks against its label most") == 5
    assert 'class="differs"' in page or 'class="number differs"' in page
    assert "Made by upweight" in page


MARKUP, FORMULA = "<img src=x onerror=window.marker=1>", '=HYPERLINK("http://localhost/marker")'


def test_no_cell_becomes_markup_or_a_formula(answer: Ask, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60), FORMULA: random.choice([MARKUP, FORMULA, "a"], 60)})
    frame["y"] = np.where(frame["x"] + random.normal(size=60) > 0, FORMULA, MARKUP)
    frame.to_csv(tmp_path / "marked.csv", index=False)
    found = answer("label-errors", tmp_path / "marked.csv", "-t", "y")
    assert MARKUP not in Path(found["files"]["report"]).read_text()
    for name in ("all rows", "with suggested labels"):
        cells = pd.read_csv(found["files"][name], dtype=str)
        assert not any(str(cell).startswith("=") for cell in [*cells.columns, *cells.to_numpy().ravel()])
    count = int((frame == FORMULA).to_numpy().sum()) + 1
    assert f"{count} cells begin like a spreadsheet's formula" in " ".join(found["warnings"])


def test_a_class_of_a_negative_number_is_that_number(answer: Ask, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60)})
    frame["y"] = np.where(frame["x"] + 0.5 * random.normal(size=60) > 0, 1, -1)
    frame.to_csv(tmp_path / "signs.csv", index=False)
    found = answer("label-errors", tmp_path / "signs.csv", "-t", "y")
    for name in ("all rows", "with suggested labels"):
        assert set(pd.read_csv(found["files"][name])["y" if "suggested" in name else "given"]) == {-1, 1}


def test_an_infinite_number_brings_no_warning_of_pandas(answer: Ask, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=60), "z": random.normal(size=60)})
    frame["y"] = np.where(frame["x"] > 0, "a", "b")
    frame.loc[4, "z"], frame.loc[5, "z"] = np.inf, -np.inf
    frame.to_csv(tmp_path / "infinite.csv", index=False)
    assert not any("RuntimeWarning" in words for words in answer("label-errors", "infinite.csv", "-t", "y")["warnings"])


def test_a_quantity_is_searched_for_wrong_numbers(answer: Ask, run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.normal(size=80), "b": random.normal(size=80)})
    frame["y"] = (3 * frame["a"] - frame["b"] + 0.1 * random.normal(size=80)).round(3)
    frame.loc[17, "y"] += 4
    frame.to_csv(tmp_path / "numbers.csv", index=False)
    found = answer("label-errors", "numbers.csv", "-t", "y", "-n", 1)
    assert found["top"][0]["id"] == 17
    assert found["classes"] is None
    page = Path(found["files"]["report"]).read_text()
    assert "error: the given number less that" in page
    assert "p_given" not in page
    assert found["quantity"]["unit"] == "squared units of the target"
    explained = answer("explain", "numbers.csv", "-t", "y", "--row", 17)
    assert explained["query"]["value"] == pytest.approx(frame["y"][17])
    assert explained["distance"] is None
    verified = answer("verify", "numbers.csv", "-t", "y", "--row", 17, "-k", 3)
    assert verified["agreement"]["slope"] == pytest.approx(1, abs=1e-6)
    refused = run("label-errors", "numbers.csv", "-t", "y", "-m", "margin", "--json")
    assert "margin is for classes; of a quantity there are out-of-sample" in refused.stdout


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".xlsx"])
@pytest.mark.parametrize("target", ["price", "kind"])
def test_the_fixed_file_is_of_the_format_that_was_read(answer: Ask, tmp_path: Path, ending: str, target: str) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.normal(size=60).round(3), "b": random.normal(size=60).round(3)})
    frame["price"] = (100 + 30 * frame["a"] - 10 * frame["b"]).round(1) + random.integers(-3, 3, 60) / 10
    frame["kind"] = np.where(frame["a"] > 0, "up", "down")
    frame.loc[17, "price"] += 400
    frame["price"] = frame["price"].round(1)
    frame.loc[9, "kind"] = {"up": "down", "down": "up"}[frame["kind"][9]]
    path = tmp_path / f"given{ending}"
    {".csv": frame.to_csv, ".parquet": frame.to_parquet, ".xlsx": frame.to_excel}[ending](path, index=False)
    found = answer("label-errors", path, "-t", target, "-n", 1)
    what = "values" if target == "price" else "labels"
    written = Path(found["files"][f"with suggested {what}"])
    assert written.name == f"label-errors.fixed{ending}"
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".xlsx": pd.read_excel}[ending]
    again = read(written)
    pd.testing.assert_frame_equal(again.drop(columns=target), read(path).drop(columns=target))
    listed = pd.read_csv(tmp_path / "upweight-report" / "label-errors.csv").set_index("row").sort_index()
    wrong = listed["suspicious"].to_numpy()
    row = 17 if target == "price" else 9
    assert wrong[row]
    assert again[target][~wrong].tolist() == frame[target][~wrong].tolist()
    if target == "price":  # with as many decimals as the column has
        assert again[target][wrong].tolist() == pytest.approx(listed["suggested"][wrong].round(1).tolist())
        assert abs(again[target][row] - (frame[target][row] - 400)) < 10
    else:
        assert again[target][wrong].tolist() == listed["suggested"][wrong].tolist()
    lines = listed["line"].tolist() if ending != ".parquet" else None
    assert ("line" in listed) == (ending != ".parquet")
    assert lines is None or lines == list(range(2, 62))


OF_TABLES = [("--weight", "x"), ("--group", "x"), ("--task", "regression"), ("--model", "mlp"), ("--estimator", "a:b")]


@pytest.mark.parametrize(("option", "value"), OF_TABLES)
def test_a_study_takes_no_option_of_tables(option: str, value: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise RuntimeError('never run')\n")
    result = run("label-errors", "mine.py", option, value)
    assert result.exit_code == 2
    assert f"{option} is for CSV files" in " ".join(result.stderr.replace("│", " ").split())


ROWS = "\n".join(f"{i % 7}.5,{'yes' if i % 2 else 'no'}" for i in range(40))
BAD = {
    "no such file": (None, "there is no such file"),
    "empty": ("", "is empty"),
    "header only": ("x,y\n", "has a header but no rows"),
    "not text": (b"x,y\n" + bytes(range(256)) * 4, "is not UTF-8 text"),
    "missing column": (f"x,Y1\n{ROWS}\n", "has no column 'y'; did you mean 'Y1'?"),
    "one class": ("x,y\n" + "1.5,a\n2.5,a\n" * 20, "holds one class only ('a' in all 40 rows)"),
    "an identifier": ("x,y\n" + "".join(f"{i % 3},name{i}\n" for i in range(60)), "an identifier rather than a class"),
    "too few rows": ("x,y\n1,a\n2,a\n3,b\n4,b\n", "4 rows have a 'y', too few for cross-validation"),
    "same names": (f"y,y\n{ROWS}\n", "'y' stands more than once"),
    "no column left": ("x,y\n" + "1,a\n1,b\n" * 20, "no column is left to predict from"),
    "ragged": (f"x,y\n{ROWS}\n1,2,3,4\n", "can't be read as a CSV"),
    "empty target": ("x,y\n" + "1.5,\n2.5,\n" * 20, "is empty in every row"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(name: str, run: Run, tmp_path: Path) -> None:
    content, message = BAD[name]
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run("label-errors", path, "--target", "y", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)["error"]
    assert told["kind"] == "InputError"
    assert message in told["message"]
    assert list(tmp_path.iterdir()) == ([path] if content is not None else [])


def test_errors_are_a_panel_without_traceback(run: Run) -> None:
    result = run("label-errors", "nowhere.csv", "--target", "y")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "nowhere.csv: there is no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_option_is_a_usage_error(run: Run) -> None:
    assert run("label-errors", "nowhere.csv").exit_code == 2


def test_spreads_leave_out_gaps_and_infinite_numbers() -> None:
    numbers, gaps = [1.0, np.inf, 3.0, -np.inf], pd.array([True, None, False, True], dtype="boolean")
    found = spreads_of(pd.DataFrame({"a": numbers, "b": pd.array([1, None, 3, 5], dtype="Int64"), "c": gaps}))
    assert found == pytest.approx({"a": 2**0.5, "b": 2.0, "c": 3**-0.5})
