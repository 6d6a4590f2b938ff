"""Numbers as people write them are read by one convention, or not at all."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from upweight.tabular.numerals import decimal_mark, numerals
from upweight.tabular.spellings import near_spellings

READ: dict[str, tuple[list[Any], list[float], str]] = {
    "decimal commas": (["0,5", "-1,25", "3"], [0.5, -1.25, 3], "'0,5' was read as 0.5"),
    "German": (["1.234,50", "12", "1.000.000"], [1234.5, 12, 1e6], "'1.234,50' was read as 1234.5"),
    "English": (["1,234.5", "1,000,000"], [1234.5, 1e6], "'1,234.5' was read as 1234.5"),
    "Swiss": (["1'234.50", "99"], [1234.5, 99], "was read as 1234.5"),
    "thin spaces": (["1\u202f234,5", "2\u00a0345"], [1234.5, 2345], ""),
    "euros": (["1.234,50 €", "-3 €"], [1234.5, -3], "in €"),
    "dollars": (["$12.50", "-$3", "$0.5"], [12.5, -3, 0.5], "in $"),
    "per cent": (["12.5 %", "3%"], [12.5, 3], "in %"),
    "brackets for debts": (["(1,234.5)", "10.5"], [-1234.5, 10.5], ""),
    "a minus of typesetters": (["−3,5", "4,5"], [-3.5, 4.5], ""),
    "dashes": (
        ["3", "-", "4", "n.a.", None],
        [3, math.nan, 4, math.nan, math.nan],
        "1 cell of '-' and 1 cell of 'n.a.' were",
    ),
    "dashes alone": (
        ["3", "-", "4", " - ", "5"],
        [3, math.nan, 4, math.nan, 5],
        "2 cells of '-' were taken",
    ),
    "one dash": (["3", "-", "4"], [3, math.nan, 4], "1 cell of '-' was taken as missing"),
    "one without the dollar": (
        [*["$1,000.50"] * 5, *["$2"] * 5, "1234.5"],
        [*[1000.5] * 5, *[2] * 5, 1234.5],
        "'$1,000.50' was read as 1000.5, in $, and a cell without it ('1234.5' in row 10) as $ too",
    ),
    "two in brackets without the dollar": (
        [*["$1,000.50"] * 18, "(1,234.50)", "(7)"],
        [*[1000.5] * 18, -1234.5, -7],
        "and 2 cells without it ('(1,234.50)' in row 18) as $ too",
    ),
    "one thousand among points": (["1 000", "0.5"], [1000, 0.5], "'1 000' was read as 1000"),
    "a guess": (["1,234", "5,678"], [1234, 5678], "which was guessed"),
}
NOT_READ: dict[str, list[Any]] = {
    "two conventions": ["1,5", "0.25"],
    "two currencies": ["$5", "5 €"],
    "one of many in another currency": [*["$5.50"] * 20, "5 €"],
    "many without the dollar": [*["$5.50"] * 8, "5", "6"],
    "a per cent among many that lacks its sign": [*["12.5 %"] * 20, "3"],
    "per cent among plain": ["12.5 %", "3"],
    "words": ["5", "unknown"],
    "versions": ["1.2.3", "1.2.4"],
    "dates": ["01.02.2024", "03.04.2024"],
    "codes with zeros in front": ["030 123", "040 456"],
    "ranges": ["1-5", "6-9"],
    "mostly dashes": ["-", "-", "-", "-", "1", "2", "-"],
    "times": ["12:30", "13:45"],
}


@pytest.mark.parametrize("name", READ)
def test_a_column_is_read(name: str) -> None:
    cells, values, note = READ[name]
    found = numerals(pd.Series(cells, dtype=object))
    assert found is not None
    assert found.values.tolist() == pytest.approx(values, nan_ok=True)
    assert note in found.note
    assert found.is_guess == (name == "a guess")


@pytest.mark.parametrize("name", NOT_READ)
def test_a_column_that_contradicts_itself_is_not(name: str) -> None:
    assert numerals(pd.Series(NOT_READ[name], dtype=object)) is None


def test_other_columns_decide_what_a_comma_is() -> None:
    unclear, sure = pd.Series(["1,234", "5,678"]), pd.Series(["0,5", "12,75"])
    assert decimal_mark([unclear, sure]) == ","
    found = numerals(unclear, ",")
    assert found is not None
    assert found.values.tolist() == [1.234, 5.678]
    assert not found.is_guess
    assert decimal_mark([sure, pd.Series(["0.5", "1.25"])]) is None


def test_spellings_of_one_class_are_pointed_out() -> None:
    (said,) = near_spellings(["Yes", "YES", "no", "y e s", "-1", "1"], [3, 2, 9, 1, 4, 4])
    assert said.startswith("classes 'Yes' (3), 'YES' (2) and 'y e s' (1) differ only in how they are written")
