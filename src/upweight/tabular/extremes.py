"""Numbers at the end of what a double holds: refused where squares overflow, missing where infinite."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.tabular.choice import Choice

LARGEST = 1e100
"""Size of a number beyond which it is refused: sums of squares over any table stay finite below it."""


def numbers_as_floats(features: pd.DataFrame, name: str, choice: Choice) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Columns of whole numbers too long for 64 bits as floats; notes say where a number is infinite.

    ``name`` is the file's; columns that the choice leaves out may hold anything.

    Raises
    ------
    InputError
        If a number is larger than `LARGEST`; names column, row and value.
    """
    frame, notes = features.copy(), []
    for column in frame.columns:
        values = frame[column]
        if values.dtype == object and types.infer_dtype(values, skipna=True) in ("integer", "mixed-integer-float"):
            values = frame[column] = values.map(_float, na_action="ignore").astype(float)
            original = features[column]
        else:
            original = values
        if choice.reason(column) or not types.is_numeric_dtype(values) or types.is_bool_dtype(values):
            continue
        sizes = np.abs(values.to_numpy(dtype=float, na_value=np.nan))
        large = np.flatnonzero(sizes > LARGEST)
        # What was written as infinite is a float; a whole number beyond all floats is none.
        beyond = [at for at in large if np.isfinite(sizes[at]) or not isinstance(original.iloc[at], float)]
        if beyond:
            row, value = values.index[int(beyond[0])], _shown(original.iloc[beyond[0]])
            raise InputError(
                f"{name}: column {column!r} holds {value} in row {row} (counted from 0 under the header); numbers up "
                f"to {LARGEST:.0e} can be reckoned with. Mend the cell, empty it, or leave the column out with --drop"
            )
        infinite = np.flatnonzero(np.isinf(sizes))
        if len(infinite):
            at = values.index[int(infinite[0])]
            cells = "value was" if len(infinite) == 1 else "values were"
            notes.append(
                f"column {column!r}: {len(infinite):,} infinite {cells} taken as missing (row {at}"
                f"{' first' if len(infinite) > 1 else ''})"
            )
    return frame, tuple(notes)


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:10]}… ({len(text)} digits)"
