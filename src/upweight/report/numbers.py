"""How values are written in tables and facts."""

from __future__ import annotations

import math
import numbers
import re
from dataclasses import dataclass


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
    """The cell with thousands set apart, from 10,000 on: for reading alone, as a name of a row is copied."""
    if shown.numeric and re.fullmatch(r"-?\d{5,}", shown.text):
        return Cell(f"{int(shown.text):,}", shown.exact or shown.text, numeric=True)
    return shown


def significant(value: float, digits: int) -> str:
    """The value with ``digits`` significant digits; plain from 0.0001 to a million, else as ``1.23e-5``.

    The text is plain ASCII, so that a number copied from the report is a number elsewhere. Digits before the
    decimal point are all kept.

    >>> [significant(value, 3) for value in (0.04, -1234.56, 1.5e-7, 0.0)]
    ['0.0400', '-1235', '1.50e-7', '0']
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}".replace("-0", "0")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < 6:
        return f"{value:.{max(digits - 1 - power, 0)}f}"
    return f"{mantissa}e{power}"
