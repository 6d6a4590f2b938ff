"""Numbers as people write them: decimal commas, thousands set apart, currencies, per cent, a dash for no value.

A column is read by one convention or not at all: where its cells contradict each other none is guessed. What a cell of
``1,234`` means is told by the others of its column, else by the other columns of its file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from upweight.report.numbers import all_digits
from upweight.spreadsheets import CURRENCY, GROUPS

Mark = Literal[".", ","]
"""What stands before the decimals."""

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
MOST_BARE = 0.1
"""Share of the numbers up to which some may lack the currency of the others."""


def _grammar(mark: Mark) -> re.Pattern[str]:
    group = "[" + ("," if mark == "." else ".") + GROUPS + "]"
    whole = rf"(?:[1-9]\d{{0,2}}(?:(?P<group>{group})\d{{3}})(?:(?P=group)\d{{3}})*|\d+)"
    number = rf"(?:{whole}(?:\{mark}\d+)?|\{mark}\d+)(?:[eE][+-]?\d+)?"
    return re.compile(
        rf"\s*(?P<open>\()?\s*(?P<sign>{SIGN})\s*(?P<before>{CURRENCY})?\s*(?P<inner>{SIGN})\s*(?P<number>{number})"
        rf"\s*(?P<after>{CURRENCY}|%|‰)?\s*(?P<close>\))?\s*"
    )


GRAMMARS: Mapping[Mark, re.Pattern[str]] = {".": _grammar("."), ",": _grammar(",")}
Reading = tuple[dict[str, float], str, list[str]]
"""The number of each text, the unit of all, and the texts without it."""
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
        How many cells hold each word for no value.
    bare
        How many cells lack the currency of the others, the first of them, and its row.
    is_guess
        Whether every cell could be read either way.
    """

    values: pd.Series
    mark: Mark | None
    unit: str
    nothing: Mapping[str, int]
    is_guess: bool
    example: tuple[str, float]
    bare: tuple[int, str, object] = (0, "", None)

    @property
    def note(self) -> str:
        """What was done, in words; "" where nothing was."""
        cell, value = self.example
        said = []
        if cell:
            guess = ", which was guessed" if self.is_guess else ""
            unit = f", in {self.unit}" if self.unit else ""
            said.append(f"{cell!r} was read as {value:.12g}{unit}{guess}")
        count, first, row = self.bare
        if count:
            without = f"{count:,} cells without it" if count > 1 else "a cell without it"
            said.append(f"{without} ({first!r} in row {row}) as {self.unit} too")
        if self.nothing:
            *some, (word, cells) = self.nothing.items()
            listed = "".join(f"{_cells(many)} of {other!r}, " for other, many in some)[:-2] + " and " * bool(some)
            were = "was" if list(self.nothing.values()) == [1] else "were"
            said.append(f"{listed}{_cells(cells)} of {word!r} {were} taken as missing")
        return ", and ".join(said)


def _cells(count: int) -> str:
    return f"{count:,} cell{'s' * (count != 1)}"


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
    read = {mark: _read(numbers, mark, counted) for mark in GRAMMARS}
    possible = [mark for mark, found in read.items() if found is not None]
    if not possible:
        return None
    alike = len(possible) == 2 and _same(read["."], read[","])
    mark = possible[0] if len(possible) == 1 else of_file or likely
    found = read[mark]
    assert found is not None
    values, unit, bare = found
    is_guess = len(possible) == 2 and not alike and of_file is None
    shown = next((text for text in numbers if PLAIN.fullmatch(text) is None or float(text) != values[text]), "")
    numbers_of = column.map(lambda text: values.get(str(text), np.nan), na_action="ignore").astype(float)
    nothing: dict[str, int] = {}
    for text in empty:
        nothing[stripped[text]] = nothing.get(stripped[text], 0) + int(counted[text])
    return Numerals(
        numbers_of,
        None if alike else mark,
        unit,
        nothing,
        is_guess,
        (stripped.get(shown, ""), values.get(shown, 0.0)),
        (int(counted[bare].sum()), stripped[bare[0]], present.index[present == bare[0]][0]) if bare else (0, "", None),
    )


def decimal_mark(columns: Iterable[pd.Series]) -> Mark | None:
    """The mark that columns of text show without doubt; None where none does, or they differ."""
    found = {each.mark for each in map(numerals, columns) if each is not None and not each.is_guess} - {None}
    return found.pop() if len(found) == 1 else None


def meaning(text: str, mark: Mark) -> tuple[float, str] | None:
    """The number that a cell holds by a convention, and its unit; None where it holds none."""
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
    return -value if negative else value, unit[0] if unit else ""


def like(cells: Sequence[str], values: Sequence[float]) -> Callable[[float], str]:
    """How to write a further number of a column: by its decimal mark, with as many decimals, its currency or per cent.

    Parameters
    ----------
    cells, values
        Of some rows: what is written, and the number that it was read as.
    """
    fits = {
        mark: sum((meaning(cell, mark) or (None,))[0] == value for cell, value in zip(cells, values, strict=True))
        for mark in GRAMMARS
    }
    mark = max(fits, key=lambda each: fits[each])
    marked = [GRAMMARS[mark].fullmatch(cell) for cell in cells]
    numbers = [found["number"].lower() for found in marked if found]
    places = {0 if "e" in number else len(number.partition(mark)[2]) for number in numbers}
    fixed = places.pop() if len(places) == 1 else 0
    model = next((found for found in marked if found and (found["before"] or found["after"])), None)
    if model is None:
        return lambda value: _digits(value, mark, fixed)
    before, after = model["before"] or "", model["after"] or ""
    gaps = model.string[model.end("before") : model.start("number")] if before else ""
    behind = model.string[model.end("number") : model.start("after")] if after else ""
    blank = " " * any(each.isspace() for each in gaps)
    is_code = before[-1:].isalpha()  # -EUR 7 is a formula to a spreadsheet, EUR -7 is none

    def written(value: float) -> str:
        sign, digits = "-" * (value < 0), _digits(abs(value), mark, fixed) + behind + after
        return before + blank + sign + digits if is_code else sign + before + blank + digits

    return written


def _digits(value: float, mark: Mark, least: int) -> str:
    """All of them, and zeros up to the decimals that every number of the column has."""
    whole, point, rest = all_digits(value).partition(".")
    if "e" in whole + rest or len(rest) >= least:
        return whole + (mark + rest if point else "")
    return whole + mark + rest.ljust(least, "0")


def _read(texts: list[str], mark: Mark, counted: pd.Series) -> Reading | None:
    """The number of each text, the unit of all, and the few texts without it; None where one is none, or units differ.

    A few numbers without a currency are of that of all others; what a per cent sign is missing from can't be known.
    """
    values: dict[str, float] = {}
    texts_of: dict[str, list[str]] = {}
    for text in texts:
        found = meaning(text, mark)
        if found is None:
            return None
        values[text], unit = found
        if values[text] or unit:
            texts_of.setdefault(unit, []).append(text)
    units = sorted(texts_of)
    if len(units) <= 1:
        return values, next(iter(units), ""), []
    bare = texts_of.get("", [])
    if len(units) > 2 or not bare or units[1] in ("%", "‰"):
        return None
    return (values, units[1], bare) if counted[bare].sum() <= MOST_BARE * counted[texts].sum() else None


def _same(one: Reading | None, other: Reading | None) -> bool:
    return one is not None and other is not None and one[0] == other[0]
