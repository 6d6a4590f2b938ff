"""Cells that are too large, infinite, or no number among numbers: named, and what they make of their column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from upweight.tabular import read_labelled

from .columns import COMMANDS, COUNT, Ask, N, ordinary, refusal, taken, with_cell
from .conftest import Run

LONG = "9" * 400
REFUSED_CELLS = {
    "1e160": (with_cell("1e160"), "1e+160"),
    "1e300": (with_cell("1e300"), "1e+300"),
    "-1e300": (with_cell("-1e300"), "-1e+300"),
    "400 digits among whole numbers": (ordinary().assign(a=np.where(COUNT == 17, LONG, COUNT % 3)), "(400 digits)"),
}
OUT = "or leave it out with --drop a"
DIGITS = "write it with digits and a point, such as 1234.5"
ODD_CELLS: dict[str, tuple[pd.DataFrame, str]] = {
    "decimal comma": (with_cell("1,5"), f"'1,5' in row 17 (counted from 0 under the header): {DIGITS}"),
    "currency": (with_cell("$ 12.50"), f"'$ 12.50' in row 17 (counted from 0 under the header): {DIGITS}"),
    "per cent": (with_cell("12.5%"), f"'12.5%' in row 17 (counted from 0 under the header): {DIGITS}"),
    "truth": (with_cell("TRUE"), "'TRUE' in row 17 (counted from 0 under the header): mend or empty it"),
    "a slip": (with_cell("1.5.2"), "'1.5.2' in row 17 (counted from 0 under the header): mend or empty it"),
    "long": (with_cell("x" * 500), "in row 17 (counted from 0 under the header): mend or empty it"),
    "a word in a third": (
        ordinary().assign(a=np.where(COUNT % 3 == 2, "unknown", ordinary()["a"].astype(str))),
        "'unknown' in row 2 (counted from 0 under the header), one of 20 such cells of 60: mend or empty them",
    ),
}

DOLLARS = [f"${1000 + 7.25 * number:,.2f}" for number in COUNT.tolist()]
for called, odd, mend in [
    ("a word among dollars", "soon", "mend or empty it"),
    ("euros among dollars", "5 €", "write it as the others are, such as '$1,000.00'"),
    ("a decimal comma among dollars", "$5,5", "write it as the others are, such as '$1,000.00'"),
]:
    ODD_CELLS[called] = (
        ordinary().assign(a=np.where(COUNT == 17, odd, DOLLARS)),
        f"{odd!r} in row 17 (counted from 0 under the header): {mend}",
    )


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


@pytest.mark.parametrize("name", ODD_CELLS)
def test_a_cell_that_makes_a_column_of_numbers_text_is_named(name: str, run: Run, answer: Ask) -> None:
    frame, words = ODD_CELLS[name]
    frame.to_csv("odd.csv", index=False)
    for command in COMMANDS if name == "decimal comma" else ["label-errors"]:
        message = refusal(run, command, "odd.csv", "-t", "y")
        assert message.startswith("odd.csv: column 'a' holds numbers, but for ")
        assert words in message
        assert message.endswith("Or leave the column out with --drop a")
        assert len(message) < 300
    if name == "truth":
        assert taken(answer("explain", "odd.csv", "-t", "y", "--drop", "a"))["a"] == "dropped"
        kept = answer("explain", "odd.csv", "-t", "y", "--columns", "a", "--columns", "b", "--force")["columns"]["a"]
        assert kept["note"] == f"it was taken for categories, as it holds numbers but for {words}; {OUT}"
        frame.assign(a=frame["a"].where(frame["a"] != "TRUE")).to_csv("odd.csv", index=False)
        assert taken(answer("explain", "odd.csv", "-t", "y", "--force"))["a"] == "numeric"


TEXTS: dict[str, tuple[Any, str, str]] = {
    "codes": (np.where(COUNT % 4 == 0, "x1", np.where(COUNT % 2, "01", "02")), "categorical", ""),
    "ratings": (np.resize(["1", "2", "3", "4", "5+"], N), "categorical", ""),
    "levels and a word": (
        np.where(COUNT == 17, "many", (COUNT % 7).astype(str)),
        "categorical",
        "it was taken for categories, as it holds numbers but for 'many' in row 17",
    ),
    "identifiers": (
        np.where(COUNT == 17, "A17", (1000 + 7 * COUNT).astype(str)),
        "dropped",
        "text or an identifier (60 distinct values in 60 rows); if it measures something, mend 'A17' in row 17",
    ),
    "dates": ([f"2024-{1 + i % 12:02d}-{1 + i // 3:02d}" for i in COUNT], "date", ""),
    "times": ([f"{i % 24}:{i:02d}" for i in COUNT], "dropped", "text or an identifier"),
    "versions": ([f"1.2.{i}" for i in COUNT], "dropped", "text or an identifier"),
    "ranges": ([f"{i}-{i + 5}" for i in COUNT], "dropped", "text or an identifier"),
    "words": (np.resize(["a", "b"], N), "categorical", ""),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_stays_text(name: str, tmp_path: Path) -> None:
    values, kind, words = TEXTS[name]
    ordinary().assign(it=values).to_csv(tmp_path / "text.csv", index=False)
    facts = read_labelled(tmp_path / "text.csv", "y").columns.described()["it"]
    assert facts["taken_for"] == kind
    assert (facts.get("reason") or facts.get("note", "")).startswith(words)
    assert bool(words) == bool(facts.get("reason") or facts.get("note"))


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
    assert found["warnings"] == []
    assert note in Path(found["files"]["report"]).read_text()
