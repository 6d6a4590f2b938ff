"""Numbers as people write them, alike in every table that is read, and plain where something is named by them."""

from __future__ import annotations

import numpy as np
import pytest

from upweight.cli.layout import facts, table
from upweight.explore import markup
from upweight.explore.lists import NAMES, _column
from upweight.explore.view import Column
from upweight.report import Facts, Table
from upweight.report.numbers import column, decimals, readable

COLUMNS = ["row", "image", "suspicious row", "line", "count", "size", "year", "word"]
ROW = [1257, 1256, 1258, 1259, 1257, 12345.67, 1994, "1257"]
READ = ["1257", "1256", "1258", "1259", "1,257", "12,346", "1994", "1257"]


def test_a_table_of_a_page_sets_thousands_apart_but_in_names_and_years() -> None:
    made = Table(COLUMNS, [ROW, [1, 9, 2, 3, 4, 5.5, 2021, "b"]], "c")
    assert [each.text for each in made.cells[0]] == READ
    assert made.cells[0][4].exact == "1257"  # to be sorted and copied by
    assert made.cells[1][5].text == "5.50"
    assert [each.text for _, each in Facts({"rows": 1257, "row": 1257}).cells] == ["1,257", "1257"]


def test_the_terminal_does_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    Console(width=120).print(table("t", COLUMNS, [ROW]), facts("f", {"rows trained on": 1257, "λ": 1e-5}))
    said = capsys.readouterr().out
    assert READ in [line.split() for line in said.splitlines()]
    assert "1,257" in said.split("λ")[0].splitlines()[-1]
    assert "1.000e-5" in said


def test_the_page_of_explore_does_the_same() -> None:
    cells = str(markup.values({"gain": 2174, "year": 1994}, years=["year"]))
    assert "2,174" in cells
    assert ">1994<" in cells
    written = {name: _column(Column("c0", name, "number", np.array(values)))[":valueFormatter"] for name, values in
               {"line": [5, 1257], "year": [1994, 2001], "gain": [5, 1257]}.items()}  # fmt: skip
    assert written["line"] == written["year"] == NAMES
    assert written["gain"] != NAMES


@pytest.mark.parametrize(
    ("values", "digits"),
    [([12, 250], 0), ([0.5, 0.25], 2), ([158.60000000000002, 3.1], 1), ([1e6, 2e6 + 0.123456], 0), ([5.0, 5.0], 0)],
)
def test_a_suggestion_has_the_decimals_of_its_column(values: list[float], digits: int) -> None:
    assert decimals(np.array(values, dtype=float)) == digits


def test_small_and_large_numbers_keep_their_power() -> None:
    assert [readable(value, 3) for value in (1.5e-7, 1.5e9, -1257.0, float("nan"))] == [
        "1.50e-7",
        "1.50e9",
        "-1,257",
        "nan",
    ]
    assert [each.text for each in column("p", [None, True, 1e9], 3)] == ["–", "yes", "1.00e9"]


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [(213829.123, 8, "213,829.12"), (1234567.89, 3, "1,234,568"), (1234567.89, 8, "1,234,567.9"), (2e9, 3, "2.00e9")],
)
def test_digits_asked_for_are_kept_whatever_the_size(value: float, digits: int, words: str) -> None:
    assert readable(value, digits) == words
