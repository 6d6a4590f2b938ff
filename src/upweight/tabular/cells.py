"""Cells that make a column of numbers text: one ``1,5`` or ``unknown`` among thousands is named."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.tabular.choice import Choice
from upweight.tabular.numerals import GRAMMARS, NOTHING, PLAIN, is_number, meaning

MOSTLY = 0.9
"""Share of a column's cells that are numbers, however written, from which on the others are odd."""
FEW_WORDS = 3
HALF = 0.5
"""The same where the others are so few words that they stand for something, as ``n.a.`` does for a missing value."""
FEWEST = 10
MOST_LEVELS = 20
"""Distinct numbers up to which the column may be categories with one more."""
FEWEST_LEVELS = 5
WRITTEN = re.compile(
    r"\s*[+-]?[$€£]?\s?\d{1,3}(?:(?P<group>[ .,'\u00a0\u202f’])\d{3})*(?:[.,]\d+)?\s?[%$€£]?\s*|\s*[+-]?\d+,\d+\s*"
)
"""Numbers with a decimal comma, thousands set apart, a currency or per cent: none that is read as one."""


@dataclass(frozen=True)
class Odd:
    """The odd cells of a column that holds numbers otherwise.

    Attributes
    ----------
    row, cell
        The first that isn't written as most are.
    count, present
        How many there are, of how many cells with a value.
    levels
        How many distinct numbers the others are.
    measured
        Whether the others are no whole numbers that are all distinct, as identifiers are.
    like
        One of the others, where they are written as people write numbers; else "".
    """

    row: object
    cell: str
    count: int
    present: int
    levels: int
    measured: bool
    like: str = ""

    @property
    def told(self) -> str:
        """The cell with its row, and what to do about it."""
        it = "it" if self.count == 1 else "them"
        mend = f"mend or empty {it}"
        if _is_written(self.cell) or PLAIN.fullmatch(self.cell):
            how = (
                f"as the others are, such as {self.like!r}" if self.like else "with digits and a point, such as 1234.5"
            )
            mend = f"write {it} {how}"
        more = f", one of {self.count:,} such cells of {self.present:,}" if self.count > 1 else ""
        return f"{self.cell[:40]!r} in row {self.row} (counted from 0 under the header){more}: {mend}"


def odd_cells(column: pd.Series) -> Odd | None:
    """The cells without which a column of text would be one of numbers; None where there are no such, or many."""
    if types.is_numeric_dtype(column) or types.is_bool_dtype(column):
        return None
    present = column.dropna().astype(str)
    counted = present.value_counts(sort=False)
    texts = pd.Series(counted.index, dtype=object)
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(float)
    is_odd = np.isnan(numbers)
    if not is_odd.any():
        return None
    is_written = np.array([odd and _is_written(text) for text, odd in zip(texts, is_odd, strict=True)], dtype=bool)
    counts = counted.to_numpy()
    good = counts[~is_odd | is_written].sum()
    share = HALF if (is_odd & ~is_written).sum() <= FEW_WORDS else MOSTLY
    if good < max(FEWEST, share * len(present)):
        return None
    found = np.where(is_written, [_meant(text) if is_written[i] else 0.0 for i, text in enumerate(texts)], numbers)
    values = found[~is_odd | is_written]
    identifies = good == len(np.unique(values)) and bool((values == np.floor(values)).all())
    unlike, like = _unlike(texts.tolist(), counts)
    first = present[present.isin(unlike)]
    levels = len(np.unique(values))
    return Odd(first.index[0], first.iloc[0].strip(), len(first), len(present), levels, not identifies, like)


def refuse_odd_cells(features: pd.DataFrame, name: str, choice: Choice) -> None:
    """Refuse a column of measured numbers that a few cells make text, unless it is asked for whatever it holds.

    ``name`` is the file's.

    Raises
    ------
    InputError
        Naming the first such cell with its row, and the mend.
    """
    for column in features.columns:
        if choice.reason(column) or column in choice.only:
            continue
        odd = odd_cells(features[column])
        if odd is not None and odd.measured and odd.levels > MOST_LEVELS:
            raise InputError(
                f"{name}: column {column!r} holds numbers, but for {odd.told}. Or leave the column out with --drop "
                f"{shlex.quote(str(column))}"
            )


def doubt(column: pd.Series) -> str:
    """Why a column of few distinct numbers was taken for categories; "" where it is one of text."""
    odd = odd_cells(column)
    if odd is None or odd.levels < FEWEST_LEVELS:
        return ""
    return f"it was taken for categories, as it holds numbers but for {odd.told}"


def _unlike(texts: list[str], counts: np.ndarray) -> tuple[set[str], str]:
    """The texts that aren't written as most are, and one that is, unless these are plain numbers."""
    covered: dict[tuple[str, str], int] = defaultdict(int)
    meant: list[set[tuple[str, str]]] = []
    for text, count in zip(texts, counts.tolist(), strict=True):
        found: set[tuple[str, str]] = {
            (mark, said[1]) for mark in GRAMMARS if (said := meaning(text, mark)) is not None
        }
        meant.append(found)
        for way in found:
            covered[way] += count
    most = max(covered, key=lambda way: covered[way], default=(".", ""))
    unlike = {text for text, found in zip(texts, meant, strict=True) if most not in found}
    like = next((text.strip() for text in texts if text not in unlike and PLAIN.fullmatch(text) is None), "")
    return {text for text in unlike if text.strip().lower() not in NOTHING} or unlike, like


def _is_written(cell: str) -> bool:
    return WRITTEN.fullmatch(cell) is not None or (is_number(cell) and PLAIN.fullmatch(cell) is None)


def _meant(cell: str) -> float:
    """The number that may be meant; where a comma or point is which can't be known, one of the two."""
    digits = ("-" if "-" in cell else "") + re.sub(r"[^\d.,]", "", cell)
    head, mark, tail = digits.rpartition("," if digits.rfind(",") > digits.rfind(".") else ".")
    if not mark or (len(tail) == 3 and head):
        return float(re.sub(r"[.,]", "", digits))
    return float(re.sub(r"[.,]", "", head) + "." + tail)
