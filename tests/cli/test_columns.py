"""What the columns of a CSV are taken for: decided once, on the whole file, alike in every command."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from upweight.tabular import sorted_columns

from .columns import COMMANDS, COUNT, Ask, N, ordinary, refusal, taken
from .conftest import Run


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
EVEN = "it counts the rows or tells their time, in steps that are even to "
NEARLY: dict[str, tuple[Any, str]] = {
    "one_repeat": (np.where(COUNT == 30, 29, COUNT), "it counts the rows, but for 1 repeat"),
    "shuffled_repeats": (
        np.random.default_rng(0).permutation(np.where(COUNT % 25 == 9, COUNT - 1, COUNT)),
        "it counts the rows, but for 3 repeats",
    ),
    "repeat_in_tenths": (np.where(COUNT == 30, 29, COUNT) / 10, "it counts the rows, but for 1 repeat"),
    "codes_for_missing": (np.where(COUNT % 6 == 1, -1, COUNT), "it counts the rows, but for 10 cells of -1"),
    "codes_above": (np.where(COUNT % 6 == 1, 9999, COUNT), "it counts the rows, but for 10 cells of 9999"),
    "one_far": (np.where(COUNT == 7, 10**6, COUNT), "it counts the rows, but for 1 far off (1e+06)"),
    "two_far": (np.select([COUNT == 7, COUNT == 9], [10**6, -5000], COUNT), "it counts the rows, but for 2 far off"),
    "codes_and_one_far": (
        np.select([COUNT % 6 == 1, COUNT == 8], [-1, 10**6], COUNT),
        "it counts the rows, but for 10 cells of -1 and 1 far off (1e+06)",
    ),
    "noisy": (COUNT + 0.1 * np.random.default_rng(0).normal(size=N), EVEN),
    "nearly_hourly": (1.7e9 + 3600 * COUNT + np.random.default_rng(0).integers(-300, 300, N), EVEN),
    "hourly_with_gaps": (1.7e9 + 3600 * some(2), "it counts the rows"),
}
MEASURED = {
    "length": np.random.default_rng(0).normal(size=N),
    "area": np.random.default_rng(0).choice(10**6, N, replace=False),
    "year": np.random.default_rng(0).integers(1950, 2020, N),
    "age": np.random.default_rng(0).integers(18, 90, N),
    "grade": np.random.default_rng(0).integers(0, 101, N),
    "share": np.random.default_rng(0).random(N).round(2),
    "income": np.random.default_rng(0).lognormal(10, 1, N).round(),
    "few": np.sort(np.random.default_rng(0).integers(0, 9, N)),
    "with_codes": np.where(COUNT % 6 == 1, -1, np.random.default_rng(0).integers(0, 500, N)),
}
RISES = "it rises with the row number (rank correlation 1.000)"
UNCLEAR: dict[str, tuple[Any, str]] = {
    "time": (np.cumsum(np.random.default_rng(0).exponential(size=N)), RISES),
    "sorted_length": (np.sort(MEASURED["length"])[::-1], "it falls with the row number (rank correlation -1.000)"),
    "sorted_age": (np.sort(MEASURED["age"]), RISES),
    "sampled_ids": (np.sort(MEASURED["area"]), RISES),
    "very_noisy": (
        COUNT + np.random.default_rng(0).normal(size=N),
        "it rises with the row number (rank correlation 0.",
    ),
    "pairs": (COUNT // 2, RISES),
    "shuffled_pairs": (np.random.default_rng(0).permutation(COUNT // 2), "each of its 30 values stands in 2 rows"),
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


@pytest.mark.parametrize("name", NEARLY)
def test_what_nearly_counts_the_rows_is_left_out_with_what_is_no_part_of_the_count(name: str) -> None:
    values, reason = NEARLY[name]
    assert sorted_columns(ordinary().assign(it=values)).dropped["it"].startswith(reason)


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_may_count_the_rows_or_not_is_kept_with_a_note(name: str, answer: Ask) -> None:
    values, words = UNCLEAR[name]
    ordinary().drop(columns="place").assign(**{"this one": values}).to_csv("unclear.csv", index=False)
    found = answer("label-errors", "unclear.csv", "-t", "y")
    column = found["columns"]["this one"]
    assert column["taken_for"] == "numeric"
    assert column["note"].startswith(words)
    assert column["note"].endswith("; if it numbers rows, groups or the time, leave it out with --drop 'this one'")
    assert found["notes"] == [f"column 'this one' was kept, though {column['note']}"]
    if name == "time":
        assert words in " ".join(Path(found["files"]["report"]).read_text().split())
        for option in ("--drop", "--columns"):
            asked = answer("label-errors", "unclear.csv", "-t", "y", option, "this one", "--force")
            assert "note" not in asked["columns"]["this one"]


def test_columns_of_measurements_are_kept_without_a_word() -> None:
    """None of hundreds of draws may count the rows by chance."""
    for seed in range(40):
        random = np.random.default_rng(seed)
        n = int(random.integers(20, 200))
        frame = pd.DataFrame(
            {
                "normal": random.normal(size=n),
                "uniform": random.random(n).round(3),
                "age": random.integers(18, 90, n),
                "thousand": random.integers(0, 1000, n),
                "area": random.choice(10**6, n, replace=False),
                "heavy": random.lognormal(10, 1, n).round(),
                "height": random.normal(170, 10, n).round(1),
                "weekday": np.resize(np.arange(7), n),
                "mostly_zero": np.where(random.random(n) < 0.7, 0, random.integers(1, 500, n)),
                "wave": np.sin(np.arange(n) / 10) + 0.1 * random.normal(size=n),
            }
        )
        found = sorted_columns(frame)
        assert found.numeric == tuple(frame.columns), (seed, found.dropped)
        assert found.doubts == {}, seed


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
        "later.csv: column 'a': is numeric in the table trained on; row 4 holds 'high'; mend the cell, or empty it",
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
    assert found["warnings"] == []


ROUNDING = "its values differ by rounding only"
TINY = "its values differ by {} at most, too little to be squared; give it in a smaller unit"
FLAT: dict[str, tuple[Any, str]] = {
    "zero": (0, "it holds one value only (0)"),
    "tenth": (0.1, "it holds one value only (0.1)"),
    "word": ("x", "it holds one value only ('x')"),
    "empty": (np.nan, "it has no values"),
    "third": (np.where(COUNT % 2, 0.3, 0.1 + 0.2), ROUNDING),
    "third_with_gaps": (np.select([COUNT % 4 == 0, COUNT % 2 == 1], [np.nan, 0.3], 0.1 + 0.2), ROUNDING),
    "large": (1e9 + 1e-7 * (COUNT % 3), ROUNDING),
    "tiny": (1e-200 * (COUNT % 5), TINY.format("4e-200")),
    "denormal": (5e-324 * (COUNT % 5), TINY.format("2e-323")),
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
    assert found["warnings"] == []
