"""Columns of text that hold dates, read by skrub; without it they stay text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.optional import imported
from upweight.tabular.choice import Choice

LOOKED_AT = 100
"""Cells that tell quickly whether a column may hold dates."""
YEAR = r"\d{4}|[-/.]\d\d\b"
NANOSECONDS = 1e9
DAY = 86_400


def is_date(column: pd.Series) -> bool:
    """Whether the column holds dates, read as such."""
    return types.is_datetime64_any_dtype(column)


def with_dates(features: pd.DataFrame, choice: Choice, only: Sequence[str] | None = None) -> pd.DataFrame:
    """Columns of text that hold dates in every cell as dates.

    ``only``: columns that must be dates, of a table read before.

    Raises
    ------
    InputError
        If one of those holds something else.
    """
    frame = features
    for name in features.columns if only is None else only:
        if choice.reason(name) or is_date(frame[name]) or types.infer_dtype(frame[name], skipna=True) != "string":
            continue
        found = _dates(frame[name])
        if found is not None:
            frame = frame.assign(**{name: found})
        elif only is not None:
            raise InputError(f"column {name!r}: holds dates in the table trained on; mend the cells that aren't")
    return frame


def _dates(column: pd.Series) -> pd.Series | None:
    some = column.dropna().iloc[:LOOKED_AT].astype(str)
    if not len(some) or not some.str.contains(YEAR).all() or find_spec("skrub") is None:
        return None
    from skrub import ToDatetime

    try:
        found: pd.Series = ToDatetime().fit_transform(column)
    except ValueError:  # its RejectColumn is one
        return None
    return found


def seconds(column: pd.Series) -> pd.Series:
    """Dates as seconds, missing where there are none."""
    values = column.dt.tz_convert(None) if getattr(column.dtype, "tz", None) is not None else column
    numbers = values.astype("datetime64[ns]").astype(np.int64).astype(float) / NANOSECONDS
    return numbers.where(column.notna())


def resolution(column: pd.Series) -> str:
    """Down to what a column tells the time."""
    return "hour" if bool((seconds(column).dropna() % DAY != 0).any()) else "day"


def encoder(resolution: str) -> Any:
    """Year, month, day, weekday and the time as numbers, by skrub, with an input that says where there is none."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with imported("columns", "a column of dates"):
        from skrub import DatetimeEncoder

    parts = DatetimeEncoder(resolution=resolution, add_weekday=True)
    return make_pipeline(parts, SimpleImputer(keep_empty_features=True, add_indicator=True), StandardScaler())
