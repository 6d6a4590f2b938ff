"""A table as the CSV that a spreadsheet opens: cells of text never begin a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet compute a cell rather than show it."""
GROUPS = " '’\u00a0\u202f\u2009"
"""What sets thousands apart beside the mark that isn't the decimal one."""
CODES = "USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|Kč|kr|zł|Fr|Rs"
CURRENCY = rf"(?:[$€£¥₹₽₩₺₫₴฿]|US\$|A\$|C\$|R\$|(?:{CODES})\.?)"
AMOUNT = re.compile(rf"[+-]\s?{CURRENCY}?\s?\d[\d.,{GROUPS}]*(?:[eE][+-]?\d+)?\s?(?:{CURRENCY}|%|‰)?\s*")
"""A number with its sign, as people write amounts: nothing that a spreadsheet would compute."""


def as_csv(frame: pd.DataFrame, *, header: bool = True) -> bytes:
    """The table as UTF-8 CSV without its index; text that begins as a formula does is preceded by ``'``."""
    quoted = frame.apply(lambda column: column if _numbers(column) else column.map(_quoted))
    quoted.columns = [_quoted(name) for name in frame.columns]
    return quoted.to_csv(index=False, header=header).encode("utf-8", errors="backslashreplace")


def _numbers(column: pd.Series) -> bool:
    return column.dtype.kind in "biufc" or getattr(column.dtype, "_is_numeric", False)


def safe(cell: str) -> str:
    """A cell as it is written, but for one that a spreadsheet would compute; numbers keep their sign."""
    if not cell.startswith(FORMULA) or len(cell) == 1 or AMOUNT.fullmatch(cell):
        return cell
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return f"'{cell}"
    return cell


def guarded(rows: Iterable[Iterable[str]], file: str) -> tuple[str, ...]:
    """A note on how many cells of a file are written otherwise than they are; none where none is."""
    count = sum(safe(cell) != cell for row in rows for cell in row)
    words = f"{count:,} cells begin like a spreadsheet's formula: in {file} they have ' before them"
    return (words,) * bool(count)


def _quoted(value: Any) -> Any:
    return safe(value) if isinstance(value, str) else value
