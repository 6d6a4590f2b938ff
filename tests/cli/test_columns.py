"""What the columns of a CSV are taken for: decided once, on the whole file, alike in every command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from .conftest import Run

Ask = Callable[..., dict[str, Any]]

COMMANDS: dict[str, list[object]] = {
    "label-errors": [],
    "explain": [],
    "verify": ["-k", 2],
    "domain-mismatch": ["-g", "place == 'north'", "--row", 0],
}
N = 60
COUNT = np.arange(N)


def ordinary(seed: int = 0) -> pd.DataFrame:
    """Rows sorted by their target: a counter beside them would tell it."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, N)).round(3)
    y = np.where(a + random.normal(size=N) > 0, "yes", "no")
    frame = pd.DataFrame({"a": a, "b": b, "place": random.choice(["north", "south"], N), "y": y})
    return frame.sort_values("y", ignore_index=True)


def with_cell(value: object, column: str = "a", row: int = 17) -> pd.DataFrame:
    frame = ordinary()
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


def refusal(run: Run, command: str, path: Path | str, *options: object) -> str:
    """The message of the one error a command ends with."""
    result = run(command, path, *COMMANDS[command], *options, "--json")
    assert result.exit_code == 1, result.output
    assert result.stderr == ""
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == "InputError"
    return str(error["message"])


def taken(found: dict[str, Any]) -> dict[str, str]:
    return {name: column["taken_for"] for name, column in found["columns"].items()}


def foreign(found: dict[str, Any]) -> list[str]:
    """Warnings that are not the package's own remark on rows of high leverage."""
    return [words for words in found["warnings"] if not words.startswith("leverage")]


def some(k: int) -> np.ndarray:
    return np.sort(np.random.default_rng(1).choice(k * N, N, replace=False))


COUNTERS = {
    "as_it_is": COUNT,
    "as_floats": COUNT + 0.0,
    "in_steps_of_10": 10 * COUNT,
    "in_steps_of_a_tenth": COUNT / 10,
    "starting_at_1000": 1000 + COUNT,
    "downwards": -COUNT,
    "shuffled": np.random.default_rng(0).permutation(N),
    "of_a_file_that_lost_half_its_rows": some(2),
    "the_same_in_steps_of_10": 10 * some(2) + 1000,
    "with_empty_cells": np.where(COUNT % 7 == 3, np.nan, COUNT),
    "as_text": [f"{i:04d}" for i in COUNT],
}
MEASURED = {
    "length": np.random.default_rng(0).normal(size=N),
    "area": np.random.default_rng(0).choice(10**6, N, replace=False),
    "time": np.cumsum(np.random.default_rng(0).exponential(size=N)),
    "year": np.random.default_rng(0).integers(1950, 2020, N),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_leaves_the_same_counters_out_and_keeps_measurements(command: str, answer: Ask) -> None:
    ordinary().assign(**COUNTERS, **MEASURED).to_csv("sorted.csv", index=False)
    found = answer(command, "sorted.csv", "-t", "y", *COMMANDS[command])
    numeric = {"taken_for": "numeric", "missing_marked": False}
    assert found["columns"] == {
        **dict.fromkeys(["a", "b", *MEASURED], numeric),
        "place": {"taken_for": "categorical", "levels": 2},
        **{name: {"taken_for": "dropped", "reason": "it counts the rows"} for name in COUNTERS},
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_a_counter_counts_rows_without_target_too(command: str, answer: Ask) -> None:
    unlabelled = np.random.default_rng(0).random(N) < 0.3
    unlabelled[0] = False  # the row asked about
    frame = ordinary().assign(id=COUNT)
    frame.assign(y=frame["y"].mask(unlabelled)).to_csv("gaps.csv", index=False)
    assert taken(answer(command, "gaps.csv", "-t", "y", *COMMANDS[command]))["id"] == "dropped"


@pytest.mark.parametrize("command", COMMANDS)
def test_columns_are_chosen_and_the_page_says_what_became_of_each(command: str, answer: Ask, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    ordinary().assign(id=COUNT, one=5, truth=True).to_csv(path, index=False)
    found = answer(command, path, "-t", "y", *COMMANDS[command], "--drop", "b")
    assert taken(found) == {"a": "numeric", "place": "categorical"} | dict.fromkeys(
        ["b", "id", "one", "truth"], "dropped"
    )
    page = Path(found["files"]["report"]).read_text()
    words = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "What every column was taken for" in words
    for reason in ("by --drop", "it counts the rows", "it holds one value only (5)", "it holds one value only (True)"):
        assert reason in words
    asked = answer(command, path, "-t", "y", *COMMANDS[command], "--force", "--columns", "a", "--columns", "id")
    assert {name for name, kind in taken(asked).items() if kind != "dropped"} == {"a", "id"}
    assert asked["columns"]["b"]["reason"] == "not among --columns"


CHOICES: dict[str, tuple[list[str], str]] = {
    "unknown to drop": (["--drop", "plaec"], "--drop: the table has no column 'plaec'; did you mean 'place'?"),
    "unknown to keep": (["--columns", "A"], "--columns: the table has no column 'A'; did you mean 'a'?"),
    "target to drop": (["--drop", "y"], "--drop: 'y' is the target"),
    "target to keep": (["--columns", "y"], "--columns: 'y' is the target"),
    "both": (["--drop", "a", "--columns", "a"], "--drop: 'a' is given to --columns too"),
    "all": (["--drop", "a", "--drop", "b", "--drop", "place"], "no column is left to predict from ('a': by --drop;"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_cannot_be_is_refused_by_every_command(name: str, run: Run, tmp_path: Path) -> None:
    options, message = CHOICES[name]
    ordinary().to_csv(tmp_path / "some.csv", index=False)
    for command in COMMANDS:
        assert message in refusal(run, command, "some.csv", "-t", "y", *options)


@pytest.mark.parametrize("option", ["--drop", "--columns"])
def test_a_study_has_no_columns_to_choose(option: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise RuntimeError('never run')\n")
    for command, more in COMMANDS.items():
        result = run(command, "mine.py", *more[:2], option, "a")
        assert result.exit_code == 2
        assert "--drop and --columns are for CSV files" in " ".join(result.stderr.replace("│", " ").split())


def now_and_later() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table to train on, with text, truth values with gaps and codes, and a later one."""
    truth = np.resize(np.array(["TRUE", "FALSE", "FALSE", ""]), N)
    code = np.where(COUNT % 4 == 0, "x1", np.where(COUNT % 2, "01", "02"))
    return tuple(ordinary(seed).assign(truth=truth, code=code) for seed in (0, 1))  # type: ignore[return-value]


LATER: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], list[str], str]] = {
    "text for numbers": (
        lambda frame: frame.assign(a=frame["a"].astype(object).where(COUNT != 4, "high")),
        [],
        "later.csv: column 'a': is numeric in the table trained on; row 4 holds 'high'",
    ),
    "too large": (lambda frame: frame.assign(a=np.where(COUNT == 4, 1e160, 1)), [], "'a' holds 1e+160 in row 4"),
    "a column less": (lambda frame: frame.drop(columns="b"), [], "later.csv: has no column 'b', which now.csv has"),
    "no target": (lambda frame: frame.rename(columns={"y": "Y"}), [], "later.csv has no column 'y'; did you mean 'Y'?"),
    "the group's column less": (
        lambda frame: frame.drop(columns="place"),
        ["--drop", "place"],
        "there is no column 'place'",
    ),
    "another class": (lambda frame: frame.assign(y="perhaps"), [], "'y' holds 'perhaps'"),
}


@pytest.mark.parametrize("name", LATER)
def test_another_file_that_does_not_fit_is_refused(name: str, run: Run) -> None:
    change, options, message = LATER[name]
    now, later = now_and_later()
    now.to_csv("now.csv", index=False)
    change(later).to_csv("later.csv", index=False)
    assert message in refusal(run, "domain-mismatch", "now.csv", "--test", "later.csv", "-t", "y", *options)


HANDLED: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], list[str], list[str]]] = {
    "as it should be": (lambda frame: frame, [], []),
    "truth without gaps": (lambda frame: frame.assign(truth="TRUE"), [], []),
    "codes that look like numbers": (lambda frame: frame.assign(code="01"), [], []),
    "a column more": (lambda frame: frame.assign(more="x"), [], []),
    "numbers missing": (lambda frame: frame.assign(b=np.nan), [], []),
    "a level more": (
        lambda frame: frame.assign(code=frame["code"].where(COUNT != 9, "03")),
        [],
        ["later.csv: column 'code' holds values unknown to now.csv in 1 of 60 rows (row 9: '03')"],
    ),
    "numbers for truth": (
        lambda frame: frame.assign(truth=1),
        [],
        ["later.csv: column 'truth' holds values unknown to now.csv in 60 of 60 rows (row 0: '1')"],
    ),
    "infinite": (
        lambda frame: frame.assign(a=np.where(COUNT == 4, np.inf, 1)),
        [],
        ["later.csv: column 'a': 1 infinite value was taken as missing (row 4)"],
    ),
    "rows without target": (
        lambda frame: frame.assign(y=frame["y"].where(COUNT < 50)),
        [],
        ["later.csv: 10 of 60 rows have no 'y' and were left out"],
    ),
    "text in a column left out": (
        lambda frame: frame.assign(a="high"),
        ["--drop", "a"],
        ["column 'a' was left out: by --drop"],
    ),
    "a column less that is left out": (
        lambda frame: frame.drop(columns="a"),
        ["--drop", "a"],
        ["column 'a' was left out: by --drop"],
    ),
}


@pytest.mark.parametrize("name", HANDLED)
def test_another_file_that_fits_is_used_and_notes_say_how(name: str, answer: Ask) -> None:
    change, options, notes = HANDLED[name]
    now, later = now_and_later()
    now.to_csv("now.csv", index=False)
    change(later).to_csv("later.csv", index=False)
    arguments = ("now.csv", "--test", "later.csv", "-t", "y", *COMMANDS["domain-mismatch"], *options)
    found = answer("domain-mismatch", *arguments)
    assert found["notes"] == notes
    assert foreign(found) == []


LONG = "9" * 400
REFUSED_CELLS = {
    "1e160": (with_cell("1e160"), "1e+160"),
    "1e300": (with_cell("1e300"), "1e+300"),
    "-1e300": (with_cell("-1e300"), "-1e+300"),
    "400 digits among whole numbers": (ordinary().assign(a=np.where(COUNT == 17, LONG, COUNT % 3)), "(400 digits)"),
}


@pytest.mark.parametrize("name", REFUSED_CELLS)
def test_a_cell_too_large_is_named_and_can_be_dropped(name: str, run: Run, answer: Ask) -> None:
    frame, shown = REFUSED_CELLS[name]
    frame.to_csv("large.csv", index=False)
    for command in COMMANDS:
        message = refusal(run, command, "large.csv", "-t", "y")
        assert "large.csv: column 'a' holds" in message
        assert shown in message
        assert "in row 17 (counted from 0 under the header)" in message
        assert len(message) < 300
    assert taken(answer("explain", "large.csv", "-t", "y", "--drop", "a"))["a"] == "dropped"


INFINITE_CELLS = {
    "inf": (with_cell("inf"), "1 infinite value was taken as missing (row 17)"),
    "-inf": (with_cell("-inf"), "1 infinite value was taken as missing (row 17)"),
    "1e400": (with_cell("1e400"), "1 infinite value was taken as missing (row 17)"),
    "400 digits among decimals": (with_cell(LONG), "1 infinite value was taken as missing (row 17)"),
    "400 digits above a decimal": (
        ordinary().assign(a=np.select([COUNT == 17, COUNT == 30], [LONG, "2.5"], (COUNT % 3).astype(str))),
        "1 infinite value was taken as missing (row 17)",
    ),
    "both infinities": (
        ordinary().assign(a=np.resize([np.inf, -np.inf, 1.0], N)),
        "40 infinite values were taken as missing (row 0 first)",
    ),
}


@pytest.mark.parametrize("name", INFINITE_CELLS)
def test_an_infinite_cell_is_missing_and_a_note_says_so(name: str, answer: Ask) -> None:
    frame, note = INFINITE_CELLS[name]
    frame.to_csv("infinite.csv", index=False)
    found = answer("verify", "infinite.csv", "-t", "y", *COMMANDS["verify"])
    assert found["notes"] == [f"column 'a': {note}"]
    assert found["columns"]["a"] == {"taken_for": "numeric", "missing_marked": True}
    assert foreign(found) == []
    assert note in Path(found["files"]["report"]).read_text()


ROUNDING = "its values differ by rounding only"
FLAT: dict[str, tuple[Any, str]] = {
    "zero": (0, "it holds one value only (0)"),
    "tenth": (0.1, "it holds one value only (0.1)"),
    "word": ("x", "it holds one value only ('x')"),
    "empty": (np.nan, "it has no values"),
    "third": (np.where(COUNT % 2, 0.3, 0.1 + 0.2), ROUNDING),
    "third_with_gaps": (np.select([COUNT % 4 == 0, COUNT % 2 == 1], [np.nan, 0.3], 0.1 + 0.2), ROUNDING),
    "large": (1e9 + 1e-7 * (COUNT % 3), ROUNDING),
    "tiny": (1e-200 * (COUNT % 5), ROUNDING),
    "denormal": (5e-324 * (COUNT % 5), ROUNDING),
    "one_with_gap": (np.where(COUNT == 7, np.nan, 1), ""),
    "one_with_gaps": (np.where(COUNT % 3, 0, np.nan), ""),
    "one_value": (np.where(COUNT == 7, 2, np.nan), ""),
    "word_with_gaps": (np.where(COUNT % 3, "x", ""), ""),
    "one_odd": (np.where(COUNT == 7, 1e99, 0), ""),
    "small": (1e-140 * (COUNT % 5), ""),
    "far_off": (1e14 + COUNT % 5, ""),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_columns_that_hardly_vary_raise_no_warning(command: str, answer: Ask) -> None:
    ordinary().assign(**{name: values for name, (values, _) in FLAT.items()}).to_csv("flat.csv", index=False)
    found = answer(command, "flat.csv", "-t", "y", *COMMANDS[command])
    assert {name: found["columns"][name].get("reason", "") for name in FLAT} == {
        name: reason for name, (_, reason) in FLAT.items()
    }
    assert foreign(found) == []


ROWS = ordinary().to_csv(index=False, header=False)
BAD_FILES = {
    "a name twice": (f"a,a,place,y\n{ROWS}", "columns ['a'] stand more than once in the header"),
    "a name twice but for spaces": (f"a, a,place,y\n{ROWS}", "columns ['a'] stand more than once in the header"),
    "the target twice": (f"a,y,place,y\n{ROWS}", "columns ['y'] stand more than once in the header"),
    "nothing": ("", "is empty; give a CSV with a header line and rows"),
    "blank lines": ("\n\n\n", "is empty; give a CSV with a header line and rows"),
    "a mark of byte order": ("\ufeff", "is empty; give a CSV with a header line and rows"),
    "a header": ("a,b,place,y", "has a header but no rows"),
    "one class": (f"a,b,place,y\n{ROWS.replace('yes', 'no')}", "'y' holds one class only ('no' in all 60 rows)"),
    "no target": (f"a,b,place,Y\n{ROWS}", "has no column 'y'; did you mean 'Y'? Its columns are 'a', 'b', 'place'"),
    "a blank target": (f"a,b,place,\n{ROWS}", "has no column 'y'. Its columns are 'a', 'b', 'place', 'Unnamed: 3'"),
    "only a target": ("y\n" + "yes\nno\n" * 30, "no column is left to predict from (there is none but the target)"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_table_is_refused_by_every_command(name: str, run: Run, tmp_path: Path) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / "bad.csv").write_text(content, encoding="utf-8")
    for command in COMMANDS:
        assert message in refusal(run, command, "bad.csv", "-t", "y")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (f"\ufeffa,b,place,y\n{ROWS}", {"a", "b", "place"}),
        (f"\n\n a , b,place, y \n{ROWS}", {"a", "b", "place"}),
        (f",b,place,y\n{ROWS}", {"Unnamed: 0", "b", "place"}),
        (f",,place,y\n{ROWS}", {"Unnamed: 0", "Unnamed: 1", "place"}),
        (ordinary().to_csv(), {"Unnamed: 0", "a", "b", "place"}),
    ],
    ids=["byte order mark", "spaces", "a blank name", "two blank names", "row names"],
)
def test_names_of_columns_are_read(content: str, names: set[str], answer: Ask, tmp_path: Path) -> None:
    (tmp_path / "named.csv").write_text(content, encoding="utf-8")
    first = min(names)
    found = answer("label-errors", "named.csv", "-t", "y", "--drop", first)
    assert found["columns"].keys() == names
    assert found["columns"][first]["reason"] == "by --drop"
