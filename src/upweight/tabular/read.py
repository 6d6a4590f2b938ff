"""Read a CSV and set its target column apart; everything that can't be a classification is refused here."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.tabular.cells import refuse_odd_cells
from upweight.tabular.choice import Choice, near_names
from upweight.tabular.columns import Columns, level_name, level_names, prepared, sorted_columns
from upweight.tabular.extremes import numbers_as_floats
from upweight.tabular.written import Written, written

MISSING = ["?"]
"""Words for a missing value beside those pandas knows (NA, NaN, null, the empty field …)."""
LONG = r"\s*[+-]?\d{19,}\s*"
"""Whole numbers that may not fit into 64 bits."""

MOST_NUMBERS = 20
"""Distinct numbers in a numeric target beyond which it is a quantity, not a class."""
MOST_CLASSES = 100
FEWEST_PER_CLASS = 5
"""Rows every class needs: one for each of the five folds."""


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """A table with a class for every row.

    Attributes
    ----------
    features
        ``[rows, columns]`` without the target; the index holds the rows' numbers in the file.
    labels
        Class number of each row, ``[rows]``.
    classes
        Names of the classes, in order of their numbers.
    columns
        What each column is taken for: decided on the whole file, and kept by every part of it.
    written
        The file's text.
    notes
        What was done to the data, in words.
    """

    path: Path
    target: str
    features: pd.DataFrame
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    columns: Columns
    written: Written
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row numbers in the file."""
        return self.features.index.to_numpy()

    def take(self, positions: npt.NDArray[np.int64]) -> LabelledTable:
        """Some of the rows; classes keep their numbers."""
        return replace(self, features=self.features.iloc[positions], labels=self.labels[positions])

    def complete(self) -> pd.DataFrame:
        """The features with the target, by name, as first column."""
        frame = self.features.copy()
        frame.insert(0, self.target, [self.classes[label] for label in self.labels])
        return frame


def read_labelled(path: str | os.PathLike[str], target: str, choice: Choice | None = None) -> LabelledTable:
    """Read a CSV (commas, semicolons, tabs or bars) whose column ``target`` holds the class of each row.

    Rows without a target are left out, and a note gives their number. ``choice``: the columns to predict from, if not
    all that may say something.

    Raises
    ------
    InputError
        If there is no such file, it is no table, the column is missing or names a quantity, there is but one
        class, a class has fewer rows than the folds of cross-validation, the choice names unknown columns, no column
        is left to predict from, or one holds a number too large to reckon with.
    """
    source = written(Path(path))
    frame = _read(source, Path(path))
    _check_target(frame, target, Path(path).name)
    kept = frame[frame[target].notna()]
    lost = _lost(frame, target)
    labels, classes = _classes(kept[target], target, lost)
    chosen = Choice() if choice is None else choice
    chosen.check(frame.columns, target)
    features, infinite = numbers_as_floats(kept.drop(columns=target), Path(path).name, chosen)
    refuse_odd_cells(features, Path(path).name, chosen)
    columns = sorted_columns(features, chosen, frame)
    return LabelledTable(Path(path), target, features, labels, classes, columns, source, (*lost, *infinite))


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a CSV (commas, semicolons, tabs or bars) as it is.

    Raises
    ------
    InputError
        If there is no such file, or it is no table with rows.
    """
    return _read(written(Path(path)), Path(path))


def read_more(path: str | os.PathLike[str], like: LabelledTable) -> LabelledTable:
    """Further rows for a table, from another CSV with its columns and classes; a class may be missing.

    Notes say where a column holds values that the table doesn't know.

    Raises
    ------
    InputError
        If there is no such file, a column of the table is missing in it or holds text for numbers, or it has a class
        that the table doesn't.
    """
    name = Path(path).name
    # Numbers of a column that is text in the first file are text here too: "01" is not 1.
    texts = [name for name in like.columns.categorical if not _is_truth(like.features[name])]
    source = written(Path(path))
    frame = _read(source, Path(path), texts)
    _check_target(frame, like.target, name)
    kept_columns = (*like.columns.numeric, *like.columns.categorical)
    missing = [column for column in kept_columns if column not in frame.columns]
    if missing:
        raise InputError(f"{name}: has no column {', '.join(map(repr, missing[:5]))}, which {like.path.name} has")
    kept = frame[frame[like.target].notna()]
    given = [level_name(value).strip() for value in kept[like.target]]
    unknown = sorted(set(given) - set(like.classes))
    if unknown:
        raise InputError(
            f"{name}: {like.target!r} holds {', '.join(map(repr, unknown[:5]))}; {like.path.name} has "
            f"{', '.join(map(repr, like.classes[:10]))}"
        )
    if not given:
        raise InputError(f"{name}: column {like.target!r} is empty in every row")
    labels = np.array([like.classes.index(value) for value in given], dtype=np.int64)
    shared = [column for column in like.features.columns if column in kept.columns]
    features, infinite = numbers_as_floats(kept[shared], name, Choice(drop=tuple(like.columns.dropped)))
    try:
        prepared(features, like.columns)  # refused before training, not after
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    notes = (*(f"{name}: {note}" for note in (*_lost(frame, like.target), *infinite)), *_unseen(features, like, name))
    return LabelledTable(Path(path), like.target, features, labels, like.classes, like.columns, source, notes)


def _lost(frame: pd.DataFrame, target: str) -> tuple[str, ...]:
    lost = int(frame[target].isna().sum())
    return (f"{lost} of {len(frame)} rows have no {target!r} and were left out",) if lost else ()


def _is_truth(column: pd.Series) -> bool:
    """Whether it holds true and false, be it with gaps."""
    return types.infer_dtype(column, skipna=True) == "boolean"


def _unseen(features: pd.DataFrame, like: LabelledTable, name: str) -> list[str]:
    """Of each categorical column, how many rows hold a value that the table doesn't."""
    notes = []
    for column in like.columns.categorical:
        known, found = set(level_names(like.features[column])), level_names(features[column])
        new = [(row, level) for row, level in zip(features.index, found, strict=True) if level not in known]
        if new:
            row, level = new[0]
            notes.append(
                f"{name}: column {column!r} holds values unknown to {like.path.name} in {len(new)} of {len(found)} "
                f"rows (row {row}: {level[:40]!r})"
            )
    return notes


def _read(source: Written, path: Path, texts: Sequence[str] = ()) -> pd.DataFrame:
    _refuse_repeated_names(source.names, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            text: dict[Hashable, type] = {name: str for name in source.names if name.strip() in texts}
            frame = _parsed(source, text)
            # A whole number beyond 64 bits above a decimal one leaves pandas with text.
            beyond = [name for name in frame if name not in text and _has_long_numbers(frame[name])]
            for name in beyond:
                with suppress(ValueError):  # text it is
                    frame[name] = _parsed(source, {name: float}, [name])[name]
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: can't be read as a CSV: {source.fault() or str(error).strip()}") from None
    if frame.empty:
        raise InputError(f"{path}: has a header but no rows")
    found = frame.rename(columns=lambda name: str(name).strip())
    _refuse_repeated_names(list(found.columns), path)  # a blank name becomes one that may be there
    return found


def _parsed(source: Written, dtype: Mapping[Hashable, type], only: Sequence[Hashable] | None = None) -> pd.DataFrame:
    return pd.read_csv(
        source.stream(),
        sep=source.separator,
        index_col=False,  # else rows with a field too many would turn the first column into names
        skipinitialspace=True,
        na_values=MISSING,
        dtype=dict(dtype),
        usecols=None if only is None else list(only),
        low_memory=False,
    )


def _has_long_numbers(column: pd.Series) -> bool:
    return types.is_string_dtype(column) and bool(column.astype(str).str.fullmatch(LONG).any())


def _refuse_repeated_names(names: Sequence[str], path: Path) -> None:
    repeated = [name for name, count in Counter(name.strip() for name in names).items() if count > 1 and name]
    if repeated:
        raise InputError(f"{path}: columns {repeated} stand more than once in the header; give each its own name")


def _check_target(frame: pd.DataFrame, target: str, name: str) -> None:
    if target in frame.columns:
        return
    raise InputError(f"--target: {name} has no column {target!r}{near_names(target, frame.columns)}")


def _classes(column: pd.Series, target: str, lost: Sequence[str] = ()) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    if column.empty:
        raise InputError(f"--target: column {target!r} is empty in every row")
    values = column if types.is_numeric_dtype(column) else column.astype(str).str.strip()
    distinct, labels, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    quantity = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    if quantity and len(distinct) > MOST_NUMBERS:
        raise InputError(
            f"--target: {target!r} is numeric with {len(distinct):,} distinct values, a quantity rather than a "
            "class; regression isn't supported here. Cut it into classes, or give a study file"
        )
    if len(distinct) == 1:
        raise InputError(
            f"--target: {target!r} holds one class only ({level_name(distinct[0])!r} in all {len(column):,} rows); "
            "two or more are needed"
            + "".join(f". {note}: empty cells and words such as NA or None are no class" for note in lost)
        )
    if len(distinct) > MOST_CLASSES or 2 * len(distinct) > len(column):
        raise InputError(
            f"--target: {target!r} has {len(distinct):,} distinct values in {len(column):,} rows; that is text or "
            f"an identifier rather than a class (up to {MOST_CLASSES} classes are allowed)"
        )
    names = tuple(level_name(value) for value in distinct)
    rare = [f"{name!r} ({count})" for name, count in zip(names, counts, strict=True) if count < FEWEST_PER_CLASS]
    if rare:
        raise InputError(
            f"--target: {target!r} has classes with fewer than {FEWEST_PER_CLASS} rows, too few for "
            f"cross-validation: {', '.join(rare[:5])}{' …' if len(rare) > 5 else ''}; merge or remove them"
        )
    return labels.astype(np.int64), names
