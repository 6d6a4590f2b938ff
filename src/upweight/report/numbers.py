"""How values are written in tables and facts."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-12
"""Share of a number up to which further digits are those of sums and products, such as of 0.1 + 0.2."""
NAMES = frozenset(["id", "row", "example", "image", "line", "position", "query", "rank"])
"""Last words of what stands above columns whose numbers are copied and looked for, not reckoned with."""
YEARS = (1500, 2200)
LARGEST_WHOLE = 1e15
"""Up to which every whole number is one of a float's."""


@dataclass(frozen=True)
class Cell:
    """A value as shown; ``exact`` holds all digits where the text has been rounded, else ``""``."""

    text: str
    exact: str
    numeric: bool


MISSING = Cell("–", "", numeric=False)


def cell(value: object, digits: int) -> Cell:
    """The value to show: floats with ``digits`` significant digits, whole numbers and words as they are.

    Zero-dimensional numpy and torch values count as the Python number that they hold.
    """
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        value = item()
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return Cell("yes" if value else "no", "", numeric=False)
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        text = significant(float(value), digits)
        exact = repr(float(value))
        return Cell(text, "" if exact == text else exact, numeric=True)
    return Cell(str(value), "", numeric=isinstance(value, numbers.Integral))


def grouped(shown: Cell) -> Cell:
    """The cell with thousands set apart: for reading alone."""
    text = _apart(shown.text) if shown.numeric else shown.text
    return shown if text == shown.text else Cell(text, shown.exact or shown.text, numeric=True)


def column(name: str, values: Sequence[object], digits: int) -> list[Cell]:
    """The cells of a column for people: thousands set apart, but for numbers that name something and for years.

    >>> [each.text for each in column("count", [1257, 3], 3) + column("row", [1257], 3) + column("year", [1994], 3)]
    ['1,257', '3', '1257', '1994']
    """
    found = [cell(value, digits) for value in values]
    return found if names_something(name) or are_years(values) else [grouped(each) for each in found]


def names_something(name: str) -> bool:
    """Whether a column's numbers are names, by what stands above it: ``row``, ``suspicious row``, ``line`` …"""
    return name.rpartition(" ")[2] in NAMES


def readable(value: float, digits: int) -> str:
    """`significant` with thousands set apart, for reading: plain up to a thousand millions.

    >>> [readable(value, 3) for value in (1257.4, 0.5, -32561.0, 1.8e8, 1.8e9)]
    ['1,257', '0.500', '-32,561', '180,000,000', '1.80e9']
    """
    return _apart(significant(value, digits, below=9))


def exact(value: float) -> str:
    """`all_digits` with thousands set apart, for reading.

    >>> [exact(value) for value in (52000.0, -1234.5, 0.25)]
    ['52,000', '-1,234.5', '0.25']
    """
    return _apart(all_digits(value))


def _apart(text: str) -> str:
    """A number's text with its thousands set apart; what has a power of ten, as it is."""
    whole, point, rest = text.partition(".")
    is_long = re.fullmatch(r"-?\d{4,}", whole) and re.fullmatch(r"\d*", rest)
    return f"{int(whole):,}{point}{rest}" if is_long else text


def signed(value: float, digits: int = 3) -> str:
    """`readable` with its sign, of 0 too.

    >>> [signed(value) for value in (1257.4, -0.5, 0.0)]
    ['+1,257', '-0.500', '+0']
    """
    text = readable(value, digits)
    return text if text.startswith("-") else f"+{text}"


def are_years(values: Any) -> bool:
    """Whether a column's numbers are whole and lie where years do, so that a comma would be wrong in them.

    >>> are_years([1994, 2021, None]), are_years([1257, 32561]), are_years(["a"])
    (True, False, False)
    """
    try:
        found = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        return False
    some = found[np.isfinite(found)]
    return bool(some.size and ((some >= YEARS[0]) & (some <= YEARS[1]) & (some == np.floor(some))).all())


def decimals(values: npt.NDArray[np.float64]) -> int:
    """Digits after the point with which a further value of a column is written.

    As many as the values themselves have (but for rounding), and no more than make six digits of their spread: what
    is beyond no model knows.

    >>> [decimals(np.array(values)) for values in ([12.0, 250.0], [0.25, 3.5], [0.0, 1 / 3])]
    [0, 2, 6]
    """
    finite = values[np.isfinite(values)]
    spread = float(finite.std()) if finite.size else 0.0
    most = min(max(5 - math.floor(math.log10(spread)), 0), 15) if spread else 15
    rounding = ROUNDING * np.abs(finite)
    return next((some for some in range(most) if (np.abs(np.round(finite, some) - finite) <= rounding).all()), most)


def in_decimals(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The values in double precision, those of less as the decimal numbers that they were read from.

    >>> in_decimals(np.float32([0.1, 2.5])).tolist()
    [0.1, 2.5]
    """
    return values.astype(str).astype(np.float64) if values.dtype.itemsize < 8 else values.astype(np.float64)


def all_digits(value: float) -> str:
    """The shortest text that reads back as the value; whole numbers without a point.

    >>> [all_digits(value) for value in (235.0, -0.1, 1e22)]
    ['235', '-0.1', '1e+22']
    """
    return str(int(value)) if value == int(value) and abs(value) < LARGEST_WHOLE else repr(float(value))


def significant(value: float, digits: int, below: int = 6) -> str:
    """The value with ``digits`` significant digits; plain from 0.0001 to a million (10**below), else as ``1.23e-5``.

    The text is plain ASCII, so that a number copied from the report is a number elsewhere. Digits before the
    decimal point are all kept.

    >>> [significant(value, 3) for value in (0.04, -1234.56, 1.5e-7, 0.0)]
    ['0.0400', '-1235', '1.50e-7', '0']
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}".replace("-0", "0")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < below:
        return f"{value:.{max(digits - 1 - power, 0)}f}"
    return f"{mantissa}e{power}"
