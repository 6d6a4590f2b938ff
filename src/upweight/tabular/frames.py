"""A file as a data frame: text, Parquet or Excel, with numbers as people write them; notes say what was made of it."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pandas as pd
from pandas.api import types

from upweight.errors import InputError
from upweight.optional import imported
from upweight.tabular.content import EXCEL, PARQUET, Content, content
from upweight.tabular.numerals import Mark, decimal_mark, numerals
from upweight.tabular.written import SPACES, Written, as_written

MISSING = ["?"]
"""Words for a missing value beside those pandas knows (NA, NaN, null, the empty field …)."""
LONG = r"\s*[+-]?\d{19,}\s*"
"""Whole numbers that may not fit into 64 bits."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A table as it was read, its rows numbered from 0.

    ``written`` is its text, of a table of text, and ``content`` its bytes, of any other.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    written: Written | None = None
    content: Content | None = None


def read_frame(path: Path, texts: Sequence[str] = ()) -> Frame:
    """Read a table; ``texts``: columns that are text whatever they hold.

    Raises
    ------
    InputError
        If there is no such file, or it is no table with rows.
    """
    given = content(path)
    if given.kind == PARQUET:
        return _typed(given, _parquet(given), given.notes, texts)
    if given.kind == EXCEL:
        frame, notes = _excel(given)
        return _typed(given, frame, (*given.notes, *notes), texts)
    source = as_written(given)
    _refuse_repeated_names(source.names, given.name)
    frame, notes = _with_numbers(_parse(source, given.name, texts), source, texts)
    return Frame(_named(frame, given.name), (*source.notes, *notes), source)


def _parse(source: Written, name: str, texts: Sequence[str]) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            text: dict[Hashable, type] = {each: str for each in source.names if each.strip() in texts}
            frame = _parsed(source, text)
            # A whole number beyond 64 bits above a decimal one leaves pandas with text.
            beyond = [each for each in frame if each not in text and _has_long_numbers(frame[each])]
            for each in beyond:
                with suppress(ValueError):  # text it is
                    frame[each] = _parsed(source, {each: float}, [each])[each]
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise InputError(f"{name}: can't be read as a CSV: {source.fault() or str(error).strip()}") from None
    return frame


def _parsed(source: Written, dtype: Mapping[Hashable, type], only: Sequence[Hashable] | None = None) -> pd.DataFrame:
    return pd.read_csv(
        source.stream(),
        sep=r"\s+" if source.separator == SPACES else source.separator,
        header=0 if source.has_header else None,
        names=None if source.has_header else list(source.names),
        index_col=False,  # else rows with a field too many would turn the first column into names
        skipinitialspace=True,
        na_values=MISSING,
        dtype=dict(dtype),
        usecols=None if only is None else list(only),
        low_memory=False,
    )


def _with_numbers(frame: pd.DataFrame, source: Written, texts: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Columns of numbers as people write them as numbers, with what was read as what."""
    words = [name for name in frame if types.is_string_dtype(frame[name]) and str(name).strip() not in texts]
    mark = decimal_mark(frame[name] for name in words)
    likely: Mark = "," if source.separator == ";" else "."
    if mark == ",":  # then 1.234 is a thousand and more, which pandas has read as 1 and a bit
        points = [name for name in frame if types.is_float_dtype(frame[name])]
        if points:
            again = _parsed(source, dict.fromkeys(points, str), points)
            grouped = [name for name in points if again[name].dropna().str.contains(".", regex=False).any()]
            frame = frame.assign(**{str(name): again[name] for name in grouped})
            words += grouped
    notes = []
    for name in words:
        found = numerals(frame[name], mark, likely)
        if found is not None:
            frame[name] = found.values
            if found.note:
                notes.append(f"column {str(name).strip()!r}: {found.note}")
    return frame, notes


def _parquet(given: Content) -> pd.DataFrame:
    with imported("parquet", "a Parquet file"):
        import pyarrow
        from pyarrow import parquet
    try:
        frame: pd.DataFrame = parquet.read_table(io.BytesIO(given.data)).to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{given.name}: can't be read as Parquet: {str(error).splitlines()[0]}") from None
    return frame.reset_index(drop=True)


def _excel(given: Content) -> tuple[pd.DataFrame, list[str]]:
    name, frame, others = sheet_of(given)
    listed = ", ".join(map(repr, others))
    return frame, [f"read from its sheet {name!r}, the first with rows; others are {listed}"] * bool(others)


def sheet_of(given: Content) -> tuple[str, pd.DataFrame, list[str]]:
    """The first sheet of an Excel file that holds anything, its frame, and what the others are called.

    Raises
    ------
    InputError
        If it can't be read, or none holds anything.
    """
    with imported("excel", "an Excel file"):
        import openpyxl  # noqa: F401
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and the like that openpyxl doesn't know
            sheets = pd.read_excel(io.BytesIO(given.data), sheet_name=None, na_values=MISSING, engine="openpyxl")
    except Exception as error:  # whatever a damaged workbook makes openpyxl raise
        raise InputError(f"{given.name}: can't be read as Excel: {type(error).__name__}: {error}") from None
    filled = {name: frame for name, frame in sheets.items() if not frame.empty}
    if not filled:
        raise InputError(f"{given.name}: none of its sheets has a header and rows")
    name, frame = next(iter(filled.items()))
    return str(name), frame, [str(each) for each in sheets if each != name]


def _typed(given: Content, frame: pd.DataFrame, notes: Sequence[str], texts: Sequence[str]) -> Frame:
    """A frame of cells that have types already, in the form of one that was text."""
    frame = _named(frame, given.name)
    said = list(notes)
    for name in frame.columns:
        column = _plain(frame[name])
        if name in texts:
            column = column.astype(str).where(column.notna())
        elif types.is_object_dtype(column) or types.is_string_dtype(column):
            found = numerals(column.map(str, na_action="ignore"))
            if found is not None:
                column = found.values
                said += [f"column {name!r}: {found.note}"] if found.note else []
        frame[name] = column
    return Frame(frame, tuple(said), content=given)


def _plain(column: pd.Series) -> pd.Series:
    """Without types that only pandas, Arrow or Python's decimals have."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if types.is_extension_array_dtype(column) and types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        column = column.astype(float) if column.isna().any() else column.astype(column.dtype.type)
    if types.is_object_dtype(column):
        some = column.dropna()
        if len(some) and some.map(lambda value: isinstance(value, Decimal)).all():
            return column.map(float, na_action="ignore").astype(float)
        return column.map(lambda value: value.strip() or None if isinstance(value, str) else value)
    return column


def _named(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    if frame.empty:
        raise InputError(f"{name}: has a header but no rows")
    found = frame.rename(columns=lambda each: str(each).strip())
    _refuse_repeated_names(list(found.columns), name)  # a blank name becomes one that may be there
    return found


def _has_long_numbers(column: pd.Series) -> bool:
    return types.is_string_dtype(column) and bool(column.astype(str).str.fullmatch(LONG).any())


def _refuse_repeated_names(names: Sequence[str], name: str) -> None:
    repeated = [each for each, count in Counter(each.strip() for each in names).items() if count > 1 and each]
    if repeated:
        words = f"{', '.join(map(repr, repeated))} stand{'s' * (len(repeated) == 1)} more than once in the header"
        raise InputError(f"{name}: {words}; give each column its own name")
