"""Comparing a column with a value or another column: like with like, and in words where they are not alike."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

Rows = npt.NDArray[np.bool_]
Compare = Callable[[Any, Any], Any]

ORDERS: tuple[Compare, ...] = (operator.lt, operator.le, operator.gt, operator.ge)
KINDS: Mapping[str, str] = {
    "text": "text",
    "numbers": "numbers",
    "truth": "true or false",
    "dates": "dates",
    "zoned": "dates of a time zone",
}
DATES = ("dates", "zoned")
LARGEST = 1e308


class UnlikeError(ValueError):
    """What is compared is not of one kind; the message says what each is, and the mend."""


def kind_of(side: Any) -> str:
    """One of `KINDS`, or "" of a column that is empty or mixed."""
    if not isinstance(side, pd.Series):
        return "truth" if isinstance(side, bool) else "text" if isinstance(side, str) else "numbers"
    values = side.dropna()
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = pd.Series(np.asarray(values))
    if types.is_bool_dtype(values):
        return "truth"
    if types.is_datetime64_any_dtype(values):
        return "dates" if getattr(values.dtype, "tz", None) is None else "zoned"
    if types.is_numeric_dtype(values) and not types.is_complex_dtype(values):
        return "numbers"
    found = types.infer_dtype(values, skipna=True)
    known = {"string": "text", "boolean": "truth", "integer": "numbers", "floating": "numbers"}
    return known.get(found, "numbers" if found == "mixed-integer-float" else "")


def compared(left: Any, how: Compare, right: Any) -> Rows:
    """For which rows it is true; of none with a missing value. At least one side is a column.

    Raises
    ------
    UnlikeError
        If text is compared with numbers, and the like.
    """
    left, right = _alike(_as_dates(left), _as_dates(right))
    if how in ORDERS and "truth" in (kind_of(left), kind_of(right)):
        raise UnlikeError(f"{_shown(left)} is true or false, which has no order; compare by == or !=")
    columns = [side for side in (left, right) if isinstance(side, pd.Series)]
    try:
        found = how(*(_plain(side) for side in (left, right)))
    except (TypeError, ValueError):
        raise UnlikeError(f"{_shown(left)} and {_shown(right)} can't be compared so") from None
    present = np.logical_and.reduce([side.notna().to_numpy() for side in columns])
    return np.asarray(pd.Series(found).fillna(False), dtype=bool) & present


def within(column: pd.Series, listed: list[Any]) -> Rows:
    """Which rows hold one of these values.

    Raises
    ------
    UnlikeError
        If one is of another kind than the column.
    """
    return np.logical_or.reduce([compared(column, operator.eq, value) for value in listed])


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """The two sides, text beside dates as a date and numbers beyond all floats as infinite."""
    kinds = kind_of(left), kind_of(right)
    if "" in kinds or kinds[0] == kinds[1]:
        _refuse_none_of(left, right)
        return _bounded(left), _bounded(right)
    if kinds[0] in DATES and isinstance(right, str):
        return left, _date(right, left)
    if kinds[1] in DATES and isinstance(left, str):
        return _date(left, right), right
    raise UnlikeError(f"{_described(left, kinds[0])} and {_described(right, kinds[1])}{_mend(left, right, kinds)}")


def _as_dates(side: Any) -> Any:
    """A column of Python's own dates as pandas keeps dates; anything else as it is."""
    objects = isinstance(side, pd.Series) and side.dtype == object
    if objects and types.infer_dtype(side, skipna=True) in ("date", "datetime", "datetime64"):
        with suppress(ValueError, TypeError, OverflowError):  # of several time zones, or beyond what pandas holds
            return pd.to_datetime(side)
    return side


def _refuse_none_of(left: Any, right: Any) -> None:
    """Refuse a value beside a column of Python objects none of which is of its kind: no row could be equal to it."""
    column, value = (left, right) if isinstance(left, pd.Series) else (right, left)
    if isinstance(value, pd.Series) or column.dtype != object or not column.notna().any():
        return
    kind = str if isinstance(value, str) else Number
    if not any(isinstance(each, kind) for each in column.dropna()):
        held = type(column.dropna().iloc[0]).__name__
        raise UnlikeError(
            f"column {column.name!r} holds {held} objects and {_described(value, kind_of(value))}; give the column as "
            "text, numbers or dates"
        )


def _described(side: Any, kind: str) -> str:
    """What a side is, such as "'age' holds numbers"."""
    if isinstance(side, pd.Series):
        return f"column {side.name!r} {'is' if kind == 'truth' else 'holds'} {KINDS[kind]}"
    return f"{_shown(side)} is {'a number' if kind == 'numbers' else KINDS[kind]}"


def _mend(left: Any, right: Any, kinds: tuple[str, str]) -> str:
    columns = [isinstance(side, pd.Series) for side in (left, right)]
    if all(columns):
        return ", so that no row compares; compare columns of one kind"
    value, kind, of = (right, kinds[1], kinds[0]) if columns[0] else (left, kinds[0], kinds[1])
    if of == "text":
        return _odd_cell(left if columns[0] else right) or f"; write {str(value)!r} in quotes"
    if of == "truth":
        return "; write True or False, without quotes"
    if of in DATES:
        return "; write a date in quotes, such as '2024-01-31'"
    if kind == "truth":
        return f"; write {int(value)}"
    try:
        finite = math.isfinite(float(value))
    except ValueError:
        finite = False
    return "; compare it with a number" if not finite else f"; write {value.strip()} without quotes"


def _odd_cell(column: pd.Series) -> str:
    """The cell that makes a column text, if most of its others are numbers."""
    present = column.dropna()
    odd = present[pd.to_numeric(present, errors="coerce").isna()]
    if not len(odd) or 2 * len(odd) > len(present):
        return ""
    return f", for row {odd.index[0]} holds {str(odd.iloc[0])[:40]!r}; mend that cell, or empty it"


def _date(text: str, like: pd.Series) -> pd.Timestamp:
    try:
        if not any(letter.isdigit() for letter in text):  # "now", "NaT", nothing
            raise ValueError
        found = pd.Timestamp(text)
        zone = like.dt.tz
        if zone is not None:
            return found.tz_localize(zone) if found.tzinfo is None else found.tz_convert(zone)
        return found.tz_localize(None)
    except (ValueError, TypeError, OverflowError):
        raise UnlikeError(f"column {like.name!r} holds dates and {text!r} is none; write it as '2024-01-31'") from None


def _bounded(side: Any) -> Any:
    if isinstance(side, int) and not isinstance(side, bool) and abs(side) > LARGEST:
        return float("inf") if side > 0 else float("-inf")
    return side


def _plain(side: Any) -> Any:
    """A column without the rules of pandas' own types: categories compare as what they stand for."""
    if isinstance(side, pd.Series):
        return (
            pd.Series(np.asarray(side)) if isinstance(side.dtype, pd.CategoricalDtype) else side.reset_index(drop=True)
        )
    return side


def _shown(side: Any) -> str:
    return f"column {side.name!r}" if isinstance(side, pd.Series) else repr(side)
