"""Columns of texts, as commands show and read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from upweight.errors import InputError


def framed(columns: Mapping[str, Any]) -> pd.DataFrame | None:
    """Columns as a table; None where there are none."""
    return pd.DataFrame({name: list(values) for name, values in columns.items()}) if columns else None


def texts_of(table: pd.DataFrame | None, name: str | None, whose: str) -> list[str]:
    """A table's column of texts: the one that is named, else ``text``, else the only one that holds text.

    Raises
    ------
    InputError
        If there is no such column, or there are several.
    """
    frame = pd.DataFrame() if table is None else table
    columns = [str(column) for column in frame.columns]
    written = [column for column in columns if pd.api.types.is_string_dtype(frame[column].dropna())]
    found = name if name is not None else "text" if "text" in written else written[0] if len(written) == 1 else None
    if found is None or found not in columns:
        asked = "which column holds the texts isn't known" if name is None else f"there is no column {name!r}"
        raise InputError(f"--text: {asked} of {whose}; name one of {columns}")
    return ["" if pd.isna(text) is True else str(text) for text in frame[found]]
