"""Read a table and set its target column apart; everything that can't be predicted is refused here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.tabular.aside import Aside, groups_of, weights_of
from upweight.tabular.cells import refuse_odd_cells
from upweight.tabular.choice import Choice, near_names
from upweight.tabular.columns import Columns, level_name, level_names, prepared, sorted_columns
from upweight.tabular.content import EXCEL, Content, called
from upweight.tabular.dates import with_dates
from upweight.tabular.extremes import numbers_as_floats
from upweight.tabular.frames import read_frame
from upweight.tabular.target import Task, read_target
from upweight.tabular.written import Written

FIRST_OF_SHEET = 2
"""Of an Excel sheet the row that holds the first row of its table."""
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """A table with a class or a number for every row.

    Attributes
    ----------
    features
        ``[rows, columns]`` without the target; the index holds the rows' numbers in the file.
    labels
        Class number of each row, or the target's number, ``[rows]``.
    classes
        Names of the classes, in order of their numbers; empty where the target is a quantity.
    columns
        What each column is taken for: decided on the whole file, and kept by every part of it.
    notes
        What was done to the data, in words.
    weights
        Of the rows, with mean 1 over the file, ``[rows]``; None where all count alike.
    groups
        Number of the group of each row, ``[rows]``; None where rows stand for themselves.
    aside
        Columns of the file that predict nothing, by name.
    written
        The file's text, where it is text.
    content
        Its bytes, where it is none.
    """

    path: Path
    target: str
    features: pd.DataFrame
    labels: npt.NDArray[np.int64] | Numbers
    classes: tuple[str, ...]
    columns: Columns
    notes: tuple[str, ...] = ()
    weights: Numbers | None = None
    groups: npt.NDArray[np.int64] | None = None
    aside: Mapping[str, pd.Series] = field(default_factory=dict)
    written: Written | None = None
    content: Content | None = None

    @property
    def lines(self) -> npt.NDArray[np.int64] | None:
        """The line of the file that each row begins on, counted from 1; of Excel the row of its sheet.

        None of what has no lines.
        """
        if self.written is not None:
            return np.array(self.written.lines())[self.rows]
        return self.rows + FIRST_OF_SHEET if self.content is not None and self.content.kind == EXCEL else None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def name(self) -> str:
        """How the file is called."""
        return called(self.path) if str(self.path) == "-" else self.path.name

    @property
    def classifies(self) -> bool:
        """Whether the target holds classes."""
        return bool(self.classes)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row numbers in the file."""
        return self.features.index.to_numpy()

    def take(self, positions: npt.NDArray[np.int64]) -> LabelledTable:
        """Some of the rows; classes keep their numbers."""
        return replace(
            self,
            features=self.features.iloc[positions],
            labels=self.labels[positions],
            weights=None if self.weights is None else self.weights[positions],
            groups=None if self.groups is None else self.groups[positions],
            aside={name: column.iloc[positions] for name, column in self.aside.items()},
        )

    def shown(self) -> pd.DataFrame:
        """`complete` for people: dates as they are written."""
        frame = self.complete()
        for name, resolution in self.columns.dates.items():
            written = frame[name].dt.strftime("%Y-%m-%d" if resolution == "day" else "%Y-%m-%d %H:%M:%S")
            frame[name] = written.astype(object).where(frame[name].notna(), None)
        return frame

    def complete(self) -> pd.DataFrame:
        """The features and the columns set aside, with the target, by name, as first column."""
        frame = self.features.copy()
        for name, column in self.aside.items():
            frame[name] = column
        names = [self.classes[label] for label in self.labels] if self.classifies else self.labels
        frame.insert(0, self.target, names)
        return frame


def read_labelled(
    path: str | os.PathLike[str],
    target: str,
    choice: Choice | None = None,
    *,
    aside: Aside | None = None,
    task: Task = "auto",
    model: str = "",
) -> LabelledTable:
    """Read a table whose column ``target`` holds the class, or the number, of each row.

    Text with any usual separator and encoding, compressed or not, Parquet and Excel; ``-`` is standard input.

    Rows without a target are left out, and a note gives their number.

    Parameters
    ----------
    choice
        The columns to predict from, if not all that may say something.
    aside
        Columns that hold the rows' weights, and which of them belong together.
    task
        What the target is; by default a quantity where it holds more than 20 distinct numbers.
    model
        The fitted model whose task that is, in words of an error.

    Raises
    ------
    InputError
        If there is no such file, it is no table, the column is missing or can't be predicted, the choice names unknown
        columns, no column is left to predict from, or one holds a number too large to reckon with.
    """
    read = read_frame(Path(path))
    frame, name = read.frame, called(Path(path)) if str(path) == "-" else Path(path).name
    _check_target(frame, target, name)
    beside = Aside() if aside is None else aside
    beside.check(frame.columns, target)
    kept = frame[frame[target].notna()]
    lost = _lost(frame, target)
    found = read_target(kept[target], target, lost, task, model)
    chosen = Choice() if choice is None else choice
    chosen.check(frame.columns, target)
    rest = kept.drop(columns=[target, *beside.names])
    features, infinite = numbers_as_floats(rest, name, chosen)
    features = with_dates(features, chosen)
    refuse_odd_cells(features, name, chosen)
    columns = sorted_columns(features, chosen, frame)
    return LabelledTable(
        Path(path),
        target,
        features,
        found.values,
        found.classes,
        columns,
        (*read.notes, *lost, *found.notes, *infinite),
        None if beside.weight is None else weights_of(kept[beside.weight]),
        None if beside.group is None else groups_of(kept[beside.group], beside.option),
        {each: kept[each] for each in beside.names},
        read.written,
        read.content,
    )


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table as it is: text, Parquet or Excel.

    Raises
    ------
    InputError
        If there is no such file, or it is no table with rows.
    """
    return read_frame(Path(path)).frame


def read_more(path: str | os.PathLike[str], like: LabelledTable) -> LabelledTable:
    """Further rows for a table, from another file with its columns and classes; a class may be missing.

    Notes say where a column holds values that the table doesn't know.

    Raises
    ------
    InputError
        If there is no such file, a column of the table is missing in it or holds text for numbers, or it has a class
        that the table doesn't.
    """
    name = Path(path).name
    # Numbers of a column that is text in the first file are text here too: "01" is not 1.
    texts = [name for name in like.columns.worded if not _is_truth(like.features[name])]
    read = read_frame(Path(path), texts)
    frame = read.frame
    _check_target(frame, like.target, name)
    missing = [column for column in like.columns.kept if column not in frame.columns]
    if missing:
        raise InputError(f"{name}: has no column {', '.join(map(repr, missing[:5]))}, which {like.name} has")
    kept = frame[frame[like.target].notna()]
    if kept.empty:
        raise InputError(f"{name}: column {like.target!r} is empty in every row")
    labels = _labels_like(kept[like.target], like, name)
    shared = [column for column in like.features.columns if column in kept.columns]
    features, infinite = numbers_as_floats(kept[shared], name, Choice(drop=tuple(like.columns.dropped)))
    try:
        features = with_dates(features, Choice(), tuple(like.columns.dates))
        prepared(features, like.columns)  # refused before training, not after
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    said = (*read.notes, *_lost(frame, like.target), *infinite)
    notes = (*(f"{name}: {note}" for note in said), *_unseen(features, like, name))
    beside = {each: kept[each] for each in like.aside if each in kept.columns}
    return LabelledTable(
        Path(path), like.target, features, labels, like.classes, like.columns, notes, aside=beside,
        written=read.written, content=read.content,
    )  # fmt: skip


def _labels_like(column: pd.Series, like: LabelledTable, name: str) -> npt.NDArray[np.int64] | Numbers:
    """The target of further rows, in the classes or numbers of a table."""
    if not like.classifies:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if len(wrong):
            raise InputError(
                f"{name}: {like.target!r} holds {str(column.iloc[wrong[0]])[:40]!r} in row {column.index[wrong[0]]}, "
                f"and finite numbers in {like.name}; mend or empty it"
            )
        return numbers
    given = [level_name(value).strip() for value in column]
    unknown = sorted(set(given) - set(like.classes))
    if unknown:
        raise InputError(
            f"{name}: {like.target!r} holds {', '.join(map(repr, unknown[:5]))}; {like.name} has "
            f"{', '.join(map(repr, like.classes[:10]))}"
        )
    return np.array([like.classes.index(value) for value in given], dtype=np.int64)


def _lost(frame: pd.DataFrame, target: str) -> tuple[str, ...]:
    lost = int(frame[target].isna().sum())
    return (f"{lost:,} of {len(frame):,} rows have no {target!r} and were left out",) if lost else ()


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
                f"{name}: column {column!r} holds values unknown to {like.name} in {len(new):,} of {len(found):,} "
                f"rows (row {row}: {level[:40]!r})"
            )
    return notes


def _check_target(frame: pd.DataFrame, target: str, name: str) -> None:
    if target in frame.columns:
        return
    raise InputError(f"--target: {name} has no column {target!r}{near_names(target, frame.columns)}")
