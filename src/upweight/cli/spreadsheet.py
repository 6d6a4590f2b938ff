"""A table as the CSV that a spreadsheet opens: cells of text never begin a formula."""

from __future__ import annotations

from typing import Any

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet compute a cell rather than show it."""


def as_csv(frame: pd.DataFrame, *, header: bool = True) -> bytes:
    """The table as UTF-8 CSV without its index; text that begins as a formula does is preceded by ``'``."""
    quoted = frame.apply(lambda column: column if _numbers(column) else column.map(_quoted))
    quoted.columns = [_quoted(name) for name in frame.columns]
    return quoted.to_csv(index=False, header=header).encode("utf-8", errors="backslashreplace")


def _numbers(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def _quoted(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
