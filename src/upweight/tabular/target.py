"""The column that is predicted: classes or a quantity, and what can be neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.tabular.columns import level_name
from upweight.tabular.spellings import near_spellings

Task = Literal["auto", "classification", "regression"]
MOST_NUMBERS = 20
"""Distinct numbers in a numeric target beyond which it is a quantity, not a class."""
MOST_CLASSES = 100
FEWEST_PER_CLASS = 5
"""Rows of a class below which some of the five folds don't hold it."""
FEWEST_ROWS = 10
"""Rows that cross-validation has something to choose by."""
SHOWN = 5


@dataclass(frozen=True, eq=False)
class TargetColumn:
    """Class numbers with names, or numbers and no names, ``[rows]``; notes say what is odd about them."""

    values: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_target(
    column: pd.Series, name: str, lost: Sequence[str] = (), task: Task = "auto", model: str = ""
) -> TargetColumn:
    """What a column without gaps holds.

    Parameters
    ----------
    model
        What the task is of, if it is not --task that says so: a fitted model.

    Raises
    ------
    InputError
        If it holds one class only, text, a quantity where classes are asked for or the reverse, infinite numbers, or
        there are too few rows.
    """
    if column.empty:
        raise InputError(f"--target: column {name!r} is empty in every row")
    is_number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    distinct = column.nunique()
    if task == "regression" or (task == "auto" and is_number and distinct > MOST_NUMBERS):
        return _quantity(column, name, distinct, task, model)
    otherwise = f"{model} tells classes apart: name the column that it was fitted on" if model else "leave --task away"
    if is_number and distinct > MOST_CLASSES:
        raise InputError(
            f"--target: {name!r} is numeric with {distinct:,} distinct values, a quantity rather than a class (up to "
            f"{MOST_CLASSES} classes are allowed); {otherwise}{'' if model else ', or cut it into classes'}"
        )
    return _classes(column, name, lost, f"; of a quantity, {otherwise}" if is_number and task != "auto" else "")


def _quantity(column: pd.Series, name: str, distinct: int, task: Task, model: str) -> TargetColumn:
    if not types.is_numeric_dtype(column) or types.is_bool_dtype(column):
        needs = (
            f"{model} is of numbers: name the column that it was fitted on"
            if model
            else "--task regression needs numbers; leave --task away for classes"
        )
        raise InputError(f"--target: {name!r} holds {str(column.iloc[0])[:40]!r} in row {column.index[0]}, and {needs}")
    values = column.to_numpy(dtype=np.float64)
    infinite = np.flatnonzero(~np.isfinite(values))
    if len(infinite):
        raise InputError(
            f"--target: {name!r} is infinite in row {column.index[infinite[0]]} (one of {len(infinite):,} such cells); "
            "mend or empty it"
        )
    if distinct == 1:
        raise InputError(f"--target: {name!r} holds one value only ({values[0]:g} in all {len(values):,} rows)")
    _refuse_few(name, len(values))
    note = f"{name!r} holds {distinct:,} distinct numbers and was taken as a quantity; classes by --task classification"
    return TargetColumn(values, (), () if task == "regression" else (note,))


def _classes(column: pd.Series, name: str, lost: Sequence[str], more: str) -> TargetColumn:
    values = column if types.is_numeric_dtype(column) else column.astype(str).str.strip()
    distinct, labels, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    if len(distinct) == 1:
        raise InputError(
            f"--target: {name!r} holds one class only ({level_name(distinct[0])!r} in all {len(column):,} rows); "
            "two or more are needed"
            + "".join(f". {note}: empty cells and words such as NA or None are no class" for note in lost)
        )
    _refuse_few(name, len(column))
    if len(distinct) > MOST_CLASSES or 2 * len(distinct) > len(column):
        raise InputError(
            f"--target: {name!r} has {len(distinct):,} distinct values in {len(column):,} rows, "
            f"{str(column.iloc[0])[:40]!r} the first; that is text or an identifier rather than a class (up to "
            f"{MOST_CLASSES} classes are allowed){more}"
        )
    names = tuple(level_name(value) for value in distinct)
    rare = [f"{each!r} ({count})" for each, count in zip(names, counts, strict=True) if count < FEWEST_PER_CLASS]
    notes = list(near_spellings(names, counts.tolist()))
    if rare:
        notes.append(
            f"classes of fewer than {FEWEST_PER_CLASS} rows, {', '.join(rare[:SHOWN])}{' …' if rare[SHOWN:] else ''}, "
            "are in no more folds of the cross-validation than they have rows: what is said of them rests on little"
        )
    return TargetColumn(labels.astype(np.int64), names, tuple(notes))


def _refuse_few(name: str, rows: int) -> None:
    if rows < FEWEST_ROWS:
        raise InputError(
            f"--target: {rows} rows have a {name!r}, too few for cross-validation; {FEWEST_ROWS} or more are needed"
        )
