"""Numbers as people write them: decimal commas, thousands set apart, currencies, per cent, a dash for no value.

A column is read by one convention or not at all: where its cells contradict each other none is guessed. What a cell of
``1,234`` means is told by the others of its column, else by the other columns of its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Mark = Literal[".", ","]
"""What stands before the decimals."""

GROUPS = " '’\u00a0\u202f\u2009"
"""What sets thousands apart beside the mark that isn't the decimal one."""
CODES = "USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|Kč|kr|zł|Fr"
CURRENCY = rf"(?:[$€£¥₹₽₩₺₫₴฿]|US\$|A\$|C\$|R\$|(?:{CODES})\.?)"
SIGN = "[+\\-−–]?"
NOTHING = frozenset(
    [
        *("-", "–", "—", "−", "--", "---", ".", "..", "...", "*", "/"),
        *("#n/a", "n.a.", "n/a", "n. a.", "k.a.", "k. a.", "na", "n.d.", "nd", "nil", "none", "null", "nan", "missing"),
    ]
)
"""What stands for no value beside numbers, in small letters."""
HALF = 0.5
"""Share of a column's cells that are numbers from which on those may stand for no value."""
FEWEST = 2
"""Numbers that a column has at least."""


def _grammar(mark: Mark) -> re.Pattern[str]:
    group = "[" + ("," if mark == "." else ".") + GROUPS + "]"
    whole = rf"(?:[1-9]\d{{0,2}}(?:(?P<group>{group})\d{{3}})(?:(?P=group)\d{{3}})*|\d+)"
    number = rf"(?:{whole}(?:\{mark}\d+)?|\{mark}\d+)(?:[eE][+-]?\d+)?"
    return re.compile(
        rf"\s*(?P<open>\()?\s*(?P<sign>{SIGN})\s*(?P<before>{CURRENCY})?\s*(?P<inner>{SIGN})\s*(?P<number>{number})"
        rf"\s*(?P<after>{CURRENCY}|%|‰)?\s*(?P<close>\))?\s*"
    )


GRAMMARS: Mapping[Mark, re.Pattern[str]] = {".": _grammar("."), ",": _grammar(",")}
PLAIN = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class Numerals:
    """How a column's numbers are written.

    Attributes
    ----------
    mark
        Before the decimals; None where no cell tells, as all hold whole numbers without groups.
    unit
        The currency or per cent in every cell, or "".
    nothing
        How many cells hold a word for no value.
    is_guess
        Whether every cell could be read either way.
    """

    values: pd.Series
    mark: Mark | None
    unit: str
    nothing: int
    nothing_shown: str
    is_guess: bool
    example: tuple[str, float]

    @property
    def note(self) -> str:
        """What was done, in words; "" where nothing was."""
        cell, value = self.example
        said = []
        if cell:
            guess = ", which was guessed" if self.is_guess else ""
            unit = f", in {self.unit}" if self.unit else ""
            said.append(f"{cell!r} was read as {value:.12g}{unit}{guess}")
        if self.nothing:
            said.append(f"{self.nothing:,} cells of {self.nothing_shown!r} were taken as missing")
        return ", and ".join(said)


def is_number(cell: str) -> bool:
    """Whether a cell is a number, however written."""
    return any(grammar.fullmatch(cell) for grammar in GRAMMARS.values())


def numerals(column: pd.Series, of_file: Mark | None = None, likely: Mark = ".") -> Numerals | None:
    """A column of text as numbers, where all its cells are numbers of one convention or stand for no value.

    ``of_file``: the decimal mark that other columns of the file show; ``likely``: what is guessed where none do.
    """
    present = column.dropna().astype(str)
    counted = present.value_counts(sort=False)
    stripped = {text: text.strip() for text in counted.index}
    empty = [text for text, short in stripped.items() if short.lower() in NOTHING]
    numbers = [text for text in counted.index if stripped[text].lower() not in NOTHING]
    count = int(counted[numbers].sum()) if numbers else 0
    if len(numbers) < FEWEST or (empty and count < HALF * len(present)):
        return None
    read = {mark: _read(numbers, mark) for mark in GRAMMARS}
    possible = [mark for mark, found in read.items() if found is not None]
    if not possible:
        return None
    alike = len(possible) == 2 and _same(read["."], read[","])
    mark = possible[0] if len(possible) == 1 else of_file or likely
    found = read[mark]
    assert found is not None
    values, unit = found
    is_guess = len(possible) == 2 and not alike and of_file is None
    shown = next((text for text in numbers if PLAIN.fullmatch(text) is None or float(text) != values[text]), "")
    meaning = column.map(lambda text: values.get(str(text), np.nan), na_action="ignore").astype(float)
    empties = int(counted[empty].sum()) if empty else 0
    return Numerals(
        meaning,
        None if alike else mark,
        unit,
        empties,
        empty[0].strip() if empty else "",
        is_guess,
        (stripped.get(shown, ""), values.get(shown, 0.0)),
    )


def decimal_mark(columns: Iterable[pd.Series]) -> Mark | None:
    """The mark that columns of text show without doubt; None where none does, or they differ."""
    found = {each.mark for each in map(numerals, columns) if each is not None and not each.is_guess} - {None}
    return found.pop() if len(found) == 1 else None


def _read(texts: list[str], mark: Mark) -> tuple[dict[str, float], str] | None:
    """The number of each text, and the unit of all; None where one is none, or units differ."""
    values, units = {}, set()
    for text in texts:
        found = GRAMMARS[mark].fullmatch(text)
        if found is None or bool(found["open"]) != bool(found["close"]):
            return None
        unit = [each for each in (found["before"], found["after"]) if each]
        if len(unit) > 1 or (found["sign"] and found["inner"]):
            return None
        if found["open"] and found["sign"]:
            return None
        group, digits = found["group"], found["number"]
        digits = digits.replace(group, "") if group else digits
        value = float(digits.replace(mark, "."))
        negative = bool(found["open"]) or (found["sign"] or found["inner"]) in ("-", "−", "–")
        values[text] = -value if negative else value
        if value or unit:
            units.add(unit[0] if unit else "")
    return (values, next(iter(units), "")) if len(units) <= 1 else None


def _same(one: tuple[dict[str, float], str] | None, other: tuple[dict[str, float], str] | None) -> bool:
    return one is not None and other is not None and one[0] == other[0]
