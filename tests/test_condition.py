"""Conditions on columns: what they mean is computed by hand, and nothing but the language gets through."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from upweight.messages import InputError
from upweight.tabular.condition import read

TABLE = pd.DataFrame(
    {
        "age": [10.0, 20.0, np.nan, 40.0],
        "sex": ["f", "m", "f", None],
        "in town": [True, False, True, True],
        "a=b": [1, 2, 3, 4],
        "smokes": [True, False, None, True],
    }
)
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
    "sex < 3": "can't be ordered",
    "age < 'x'": "can't be ordered",
    "age in 3": "in needs a list",
    "sex in 'fm'": "in needs a list",
    "3 in [age]": "a list holds text and numbers alone",
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


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:30])
def test_anything_else_is_refused_with_its_mend(text: str) -> None:
    with pytest.raises(InputError, match=r"^--group: ") as error:
        read(text).holds(TABLE)
    assert BAD[text] in str(error.value)
