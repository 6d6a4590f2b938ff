"""Conditions on columns: what they mean is computed by hand, and nothing but the language gets through."""

from __future__ import annotations

import sys
from datetime import date, time

import numpy as np
import pandas as pd
import pytest

from upweight.errors import InputError
from upweight.tabular.condition import read

TABLE = pd.DataFrame(
    {
        "age": [10.0, 20.0, np.nan, 40.0],
        "sex": ["f", "m", "f", None],
        "in town": [True, False, True, True],
        "a=b": [1, 2, 3, 4],
        "smokes": [True, False, None, True],
        "_column_0_": [4, 3, 2, 1],
        "said": ["it's", "C:\\new", 'a "b"', "C:new"],
        "größe": [1, 2, 3, 4],
        "\ufb01eld": [1, 2, 3, 4],
        "a`b": [1, 2, 3, 4],
        "a#b": [1, 2, 3, 4],
        "day": ["2024-01-01", "2024-01-31", None, "2023-12-31"],
        "when": pd.to_datetime(["2024-01-01", "2024-01-31", None, "2023-12-31"]),
        "zone": pd.to_datetime(["2024-01-01", "2024-01-31", None, "2023-12-31"]).tz_localize("UTC"),
        "kind": pd.Categorical(["x", "y", "x", None]),
        "whole": pd.array([1, None, 3, 4], dtype="Int64"),
        "truth": pd.array([True, None, False, True], dtype="boolean"),
        "large": np.array([1, 2, 3, 2**63 + 5], dtype=np.uint64),
        "nothing": pd.Series([None] * 4, dtype=object),
        "mixed": ["a", 1, 2.5, None],
        "written": ["1", "1,5", "2", "3"],
        "date": [date(2024, 1, 1), date(2024, 1, 31), None, date(2023, 12, 31)],
        "time": [time(1), time(2), None, time(3)],
        "bytes": [b"a", b"b", None, b"a"],
        7: [1, 2, 3, 4],
    }
)
LAST, FIRST = pd.Series([False, False, False, True]), pd.Series([True, False, False, False])
EARLY = pd.Series([True, False, False, True])
AGE, SEX = TABLE["age"], TABLE["sex"]
GOOD = {
    "age < 25": AGE < 25,
    "25 > age": AGE < 25,
    "10 < age <= 40": (AGE > 10) & (AGE <= 40),
    "age == 20": AGE == 20,
    "age != 20": (AGE != 20) & AGE.notna(),
    "age > -1": AGE > -1,
    "age >= 1e1": AGE >= 10,
    "sex == 'f' and age < 25": (SEX == "f") & (AGE < 25),
    'sex == "f" or age > 30': (SEX == "f") | (AGE > 30),
    "not sex == 'f'": SEX != "f",
    "not (sex == 'f' or age > 30)": ~((SEX == "f") | (AGE > 30)),
    "(sex == 'f') & (age < 25)": (SEX == "f") & (AGE < 25),
    "(sex == 'f') | ~(age < 25)": (SEX == "f") | ~(AGE < 25),
    "sex in ['f', 'x']": SEX == "f",
    "age not in (10, 20)": AGE == 40,
    "age in [-1, 10]": AGE == 10,
    "`in town`": TABLE["in town"],
    "`in town` == True and `a=b` > 1": TABLE["in town"] & (TABLE["a=b"] > 1),
    "smokes": pd.Series([True, False, False, True]),
    "sex == 'a = b' or age < 15": AGE < 15,
    "sex != '`'": SEX.notna(),
    "age == `a=b`": pd.Series([False] * 4),
    "_column_0_ > 3 and `in town`": FIRST,
    "`in town` and `a=b` < _column_0_": FIRST,
    r"said == 'it\'s'": FIRST,
    'said == "it\'s"': FIRST,
    "said == 'a \"b\"'": pd.Series([False, False, True, False]),
    r"said == 'C:\new'": pd.Series([False, True, False, False]),
    r"said == 'C:\\new'": pd.Series([False, True, False, False]),
    "größe > 3": LAST,
    "\ufb01eld > 3": LAST,
    "`a``b` > 3": LAST,
    "`a#b` > 3 or said == '#'": LAST,
    "`7` > 3": LAST,
    "day < '2024-01-15'": EARLY,
    "when < '2024-01-15'": EARLY,
    "'2024-01-15' > when": EARLY,
    "zone < '2024-01-15'": EARLY,
    "when in ['2024-01-31']": pd.Series([False, True, False, False]),
    "kind == 'x' or kind in ['z']": pd.Series([True, False, True, False]),
    "kind > 'x'": pd.Series([False, True, False, False]),
    "whole > 3": LAST,
    "whole in [1, 4]": EARLY,
    "truth": EARLY,
    "truth == False": pd.Series([False, False, True, False]),
    "smokes in [True]": EARLY,
    "large > 9223372036854775807": LAST,
    f"age < {'9' * 400}": AGE.notna(),
    f"large in [{'9' * 30}, 3]": pd.Series([False, False, True, False]),
    "age < 1e999": AGE.notna(),
    "nothing == 'x'": pd.Series([False] * 4),
    "nothing != 3": pd.Series([False] * 4),
    "mixed == 'a' or mixed == 1": pd.Series([True, True, False, False]),
    "not age == age": AGE.isna(),
    "date > '2024-01-01'": TABLE["when"] > "2024-01-01",
    "date == '2024-01-01'": FIRST,
    "date in ['2024-01-01', '2023-12-31']": EARLY,
    "date == when": TABLE["when"].notna(),
    "nothing == 'a'": TABLE["nothing"].notna(),
    "mixed == 'a'": FIRST,
    "(age\n< 25)": AGE < 25,
    " and ".join(["age < 25"] * 300): AGE < 25,
    " age < 25 ": AGE < 25,
}


@pytest.mark.parametrize("text", GOOD)
def test_a_condition_holds_where_it_does_by_hand(text: str) -> None:
    assert read(text).holds(TABLE).tolist() == GOOD[text].tolist()


def test_the_columns_in_a_condition_are_known() -> None:
    assert read("`in town` and age < 3 and age > sex").names == ("in town", "age", "sex")


BAD = {
    "age = 20": "has a single =; write == to compare",
    "sex = 'f' and age < 3": "has a single =",
    "ages < 20": "no column 'ages'; did you mean 'age'",
    "`in twon`": "no column 'in twon'",
    "age <": "can't be read",
    "": "can't be read",
    "1 < 2": "names no column",
    "True": "names no column",
    "age": "'age' isn't true or false for each row",
    "age and sex == 'f'": "'age' isn't true or false for each row",
    "'f'": "names no column",
    "age < 3 or 'f'": "isn't true or false for each row",
    "sex < 3": "column 'sex' holds text and 3 is a number; write '3' in quotes",
    "age < 'x'": "column 'age' holds numbers and 'x' is text; compare it with a number",
    "age == '10'": "column 'age' holds numbers and '10' is text; write 10 without quotes",
    "'10' != age": "write 10 without quotes",
    "age in [10, '20']": "'20' is text; write 20 without quotes",
    "whole == '1'": "write 1 without quotes",
    "sex == 3": "column 'sex' holds text and 3 is a number; write '3' in quotes",
    "kind in [3]": "column 'kind' holds text and 3 is a number",
    "sex == True": "write 'True' in quotes",
    "age == True": "column 'age' holds numbers and True is true or false; write 1",
    "smokes == 1": "column 'smokes' is true or false and 1 is a number; write True or False, without quotes",
    "smokes == 'True'": "write True or False, without quotes",
    "truth < True": "is true or false, which has no order",
    "age == sex": "compare columns of one kind",
    "when == zone": "column 'zone' holds dates of a time zone, so that no row compares",
    "when > 3": "column 'when' holds dates and 3 is a number; write a date in quotes, such as '2024-01-31'",
    "when > 'soon'": "'soon' is none; write it as '2024-01-31'",
    **{f"when < {text!r}": f"column 'when' holds dates and {text!r} is none" for text in ("", "NaT", "now", "today")},
    "date == 'soon'": "column 'date' holds dates and 'soon' is none",
    "date == 3": "column 'date' holds dates and 3 is a number",
    "time == '01:00'": "'time' holds time objects and '01:00' is text; give the column as text, numbers or dates",
    "bytes in ['a']": "column 'bytes' holds bytes objects and 'a' is text",
    "bytes != 1": "column 'bytes' holds bytes objects and 1 is a number",
    "age < 'inf'": "'inf' is text; compare it with a number",
    "mixed < 3": "column 'mixed' and 3 can't be compared so",
    "written < 2": "column 'written' holds text and 2 is a number, for row 1 holds '1,5'; mend that cell",
    "age == [10, 20]": "compares with a list; write in ['a', 'b'] for one of several",
    "(10,) == age": "compares with a list",
    "age < [10]": "compares with a list",
    "age in [10] == True": "compares with a list",
    "age in []": "the list is empty",
    "age not in ()": "the list is empty",
    "age in [[10]]": "a list holds text and numbers alone",
    "age in [~1]": "a list holds text and numbers alone",
    "age < 20 == True": "'20' is compared with no column",
    "(age < 20) == True": "'age < 20' is no column, text or number",
    "age < 1,5": "a number has a point, 1.5, and no comma",
    "age < -True": "isn't understood",
    "age < --3": "isn't understood",
    "`in town` + 1 == 2": "'`in town` + 1' isn't understood",
    "said == 'it''s'": r"two texts side by side before 's'; a quote within text is written \'",
    "said in ['a' \"b\"]": "two texts side by side",
    "said == r'x'": "r'x' isn't understood; text begins with its quote",
    "sex == 'f": "a quote (') is open",
    'sex == "f': 'a quote (") is open',
    "`in town == 3": "a backtick is open",
    "age `` < 3": "backticks with nothing between",
    "age < 3 # or smokes": "has a # outside quotes",
    "age < 3 AND smokes": "write 'and' for 'AND'",
    "age < 3 && smokes": "write 'and' for '&&'",
    "age <> 3": "write '!=' for '<>'",
    "!smokes": "write 'not' for '!'",
    "age == nan": "rows without a value in x are those of: not x == x",
    "age == None": "rows without a value in x are those of: not x == x",
    "age < " + "9" * 5000: "can't be read",
    "~" * 5000 + "smokes": "can't be read" if sys.version_info < (3, 13) else "more than 50 parts",
    "(" * 300 + "smokes" + ")" * 300: "can't be read",
    "age is (" + "not " * 2300 + "smokes)": "isn't understood",
    "age\x00 < 3": "can't be read",
    "age < 3\ud800": "can't be read",
    "age in 3": "in needs a list",
    "sex in 'fm'": "in needs a list",
    "3 in [age]": "'3' is compared with no column; write a column before in",
    "age in [sex]": "a list holds text and numbers alone",
    "'f' in ['f'] and age < 2": "is compared with no column",
    "age < 20 & sex == 'f'": "& and | bind closer than comparisons",
    "age is None": "isn't understood",
    "age < None": "isn't understood",
    "age + 1 < 3": "isn't understood",
    "-age < 3": "isn't understood",
    "age < 3j": "isn't understood",
    "age < ...": "isn't understood",
    "age < b'x'": "isn't understood",
    "age.max() < 3": "isn't understood",
    "age.values": "isn't understood",
    "age[0] == 3": "isn't understood",
    "len(sex) < 3": "isn't understood",
    "@age < 3": "can't be read",
    "(lambda: age)": "isn't understood",
    "f'{age}' == '3'": "isn't understood",
    "[x for x in age]": "isn't understood",
    "age if age else sex": "isn't understood",
    "(age := 3)": "has a single =",
    "__name__ == 'x'": "no column '__name__'",
    "{'f': age}": "isn't understood",
    "*age": "can't be read",
    "age < 3; sex == 'f'": "can't be read",
    "age < 3\nsex == 'f'": "can't be read",
    "age < " + "1" * 20_000: "characters are more than",
    "not " * 100 + "smokes": "parts within each other",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: ascii(text[:30]))
def test_anything_else_is_refused_with_its_mend(text: str) -> None:
    with pytest.raises(InputError, match=r"^--group: ") as error:
        read(text).holds(TABLE)
    assert BAD[text] in str(error.value)
    assert len(str(error.value)) < 700


def test_a_name_that_two_columns_have_is_refused() -> None:
    with pytest.raises(InputError, match="--group: 2 columns are called 'a'; give each its own name"):
        read("a < 3").holds(pd.DataFrame([[1, 2]], columns=["a", "a"]))
