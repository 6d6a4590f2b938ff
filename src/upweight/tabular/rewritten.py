"""A table's file with other cells of its target and without some rows, in the file's own format; all else as it is."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from upweight.optional import imported
from upweight.spreadsheets import guarded
from upweight.tabular.content import EXCEL, PARQUET, Content
from upweight.tabular.frames import sheet_of
from upweight.tabular.numerals import like
from upweight.tabular.read import LabelledTable

TEXT_ENDING = ".csv"
ENDINGS = {PARQUET: ".parquet", EXCEL: ".xlsx"}
LOOKED_AT = 2000
"""Cells of the target by which a number is written as they are."""


@dataclass(frozen=True)
class Rewritten:
    """A file's new content, the ending that its name gets, and what else is to be known."""

    ending: str
    content: bytes
    notes: tuple[str, ...] = ()


def rewritten(
    table: LabelledTable, answers: Mapping[int, str | float], without: Collection[int] = (), called: str = "the file"
) -> Rewritten:
    """The file of a table with other classes or numbers in some rows, and without some rows.

    Parameters
    ----------
    table
        As it was read.
    answers
        By the rows' numbers: names of classes, or numbers where the target is a quantity. A number is written as the
        column's are: with their decimal mark, their currency.
    without
        Numbers of the rows that are left out.
    called
        What the new file is called in notes.

    Raises
    ------
    MissingExtraError
        If what reads and writes the format isn't installed.
    """
    if table.content is not None:
        cells = {row: _cell(table, answer) for row, answer in answers.items()}
        written = _parquet if table.content.kind == PARQUET else _excel
        return written(table, table.content, cells, set(without), called)
    source = table.written
    assert source is not None
    if table.classifies:
        texts = {row: str(answer) for row, answer in answers.items()}
    else:
        place = [name.strip() for name in source.names].index(table.target)
        given = list(source.rows())
        some = table.rows[:LOOKED_AT].tolist()
        write = like([given[row][place] for row in some], table.labels[:LOOKED_AT].tolist())
        texts = {row: write(float(answer)) for row, answer in answers.items()}
    left_out = set(without)
    kept = (row for number, row in enumerate(source.rows()) if number not in left_out)
    words = guarded((source.names, *kept), called)
    if source.encoded:
        words += (f"{called} is written as UTF-8: {table.name} was {source.encoded.partition(',')[0]}",)
    text = source.with_column(table.target, texts, left_out)
    return Rewritten(TEXT_ENDING, text.encode("utf-8", errors="backslashreplace"), words)


def _cell(table: LabelledTable, answer: str | float) -> Any:
    """A class as a row that holds it (by its number), a quantity as its number."""
    if not table.classifies:
        return float(answer)
    same = np.flatnonzero(table.labels == table.classes.index(str(answer)))
    return int(table.rows[same[0]])


def _parquet(
    table: LabelledTable, given: Content, cells: Mapping[int, Any], without: Collection[int], called: str
) -> Rewritten:
    with imported("parquet", "a Parquet file"):
        import pyarrow
        from pyarrow import parquet
    found = parquet.read_table(io.BytesIO(given.data))
    place = next(number for number, name in enumerate(found.column_names) if str(name).strip() == table.target)
    old, field = found.column(place), found.schema.field(place)
    values = old.to_pylist()
    write = None if table.classifies else _written(table, values)
    before = list(values)
    for row, cell in cells.items():
        values[row] = before[cell] if write is None else write(cell)
    column = pyarrow.array(values, type=field.type) if write is None else _numbers(values, field.type)
    wider = f"column {table.target!r} is {column.type} in {called}, as {field.type} can't hold its new values"
    found = found.set_column(place, field.with_type(column.type), column)
    if without:
        found = found.take(np.setdiff1d(np.arange(found.num_rows), list(without)))
    stream = io.BytesIO()
    parquet.write_table(found, stream)
    return Rewritten(ENDINGS[PARQUET], stream.getvalue(), (wider,) * (column.type != field.type))


def _numbers(values: list[Any], kind: Any) -> Any:
    """A column of its own type if that holds all of the values, else of a wider one: 12.5 or 300 among bytes."""
    import pyarrow

    if pyarrow.types.is_decimal(kind):
        exact = [value if value is None else Decimal(str(value)) for value in values]
        with contextlib.suppress(pyarrow.ArrowInvalid):
            return pyarrow.array(exact, type=kind)
        return pyarrow.array(exact)
    whole = all(value is None or isinstance(value, int) for value in values)
    if whole or not pyarrow.types.is_integer(kind):  # it would take 12.5 for 12 there, without a word
        with contextlib.suppress(pyarrow.ArrowInvalid, OverflowError):
            return pyarrow.array(values, type=kind)
    return pyarrow.array(values, type=pyarrow.int64() if whole else pyarrow.float64())


def _excel(
    table: LabelledTable, given: Content, cells: Mapping[int, Any], without: Collection[int], called: str
) -> Rewritten:
    with imported("excel", "an Excel file"):
        import openpyxl
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and the like that openpyxl doesn't know
        book = openpyxl.load_workbook(io.BytesIO(given.data))
    sheet: Any = book[sheet_of(given)[0]]
    names = ["" if cell.value is None else str(cell.value).strip() for cell in sheet[1]]
    place = names.index(table.target) + 1
    old = [(cell.value, cell.data_type) for (cell,) in sheet.iter_rows(min_row=2, min_col=place, max_col=place)]
    write = None if table.classifies else _written(table, [value for value, _ in old])
    for row, cell in cells.items():
        into = sheet.cell(row + 2, place)
        into.value, kind = old[cell] if write is None else (write(cell), None)
        if isinstance(into.value, str):
            into.data_type = kind or "s"  # text that begins with = is text still
    for row in sorted(without, reverse=True):
        sheet.delete_rows(row + 2)
    stream = io.BytesIO()
    book.save(stream)
    formulas = sum(cell.data_type == "f" for row in sheet.iter_rows() for cell in row)
    note = f"{formulas:,} cells of {given.name} hold formulas: a spreadsheet computes them when it opens {called}"
    if without:
        note += "; they name the cells that they named before the rows were left out, so look them through"
    return Rewritten(ENDINGS[EXCEL], stream.getvalue(), (note,) * bool(formulas))


def _written(table: LabelledTable, values: list[Any]) -> Any:
    """How a number is put among these values: as they are written where they are text."""
    some = [row for row in table.rows[:LOOKED_AT].tolist() if isinstance(values[row], str)]
    if some:
        at = {row: number for number, row in enumerate(table.rows.tolist())}
        return like([values[row] for row in some], [float(table.labels[at[row]]) for row in some])
    whole = all(isinstance(values[row], int) for row in table.rows.tolist())
    return lambda value: int(value) if whole and value == int(value) else value
