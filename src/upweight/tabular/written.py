"""A table of text as it is written: its separator and the names in its header; what can't be one is refused."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from upweight.errors import InputError
from upweight.spreadsheets import safe
from upweight.tabular.content import Content, content
from upweight.tabular.decoded import decoded
from upweight.tabular.numerals import is_number

SEPARATORS = ",;\t|"
SPACES = " "
"""Columns that stand apart by any number of spaces, where nothing else sets them apart."""
LOOKED_AT = 200
"""Rows that separator and header are judged by."""
COUNTED = re.compile(r"(?:19|20)\d\d")
"""Years: names of columns as often as values."""
SHOWN = 60
"""Letters of a line in a message."""


@dataclass(frozen=True)
class Written:
    """The text of a table; ``has_header``: whether its first line holds names, else they are ``column 1`` ….

    ``encoded`` says how its bytes were read, where they weren't UTF-8.
    """

    text: str = field(repr=False)
    separator: str
    names: tuple[str, ...]
    has_header: bool = True
    notes: tuple[str, ...] = ()
    encoded: str = ""

    def stream(self) -> io.StringIO:
        """The text, to read from its beginning."""
        return io.StringIO(self.text, newline="")

    @cached_property
    def where(self) -> str:
        """What rows are counted from, in words."""
        return "counted from 0 under the header" if self.has_header else "counted from 0 at the first line"

    def lines(self) -> list[int]:
        """The line of the file that each row begins on, counted from 1 as editors do."""
        found, stream = [], _stream(self.text, self.separator)
        reader = csv.reader(stream, delimiter=self.separator, skipinitialspace=True)
        before = 0
        for row in reader:
            if len(row) > 1 or any(cell.strip() for cell in row):
                found.append(before + 1)
            before = reader.line_num
        return found[1:] if self.has_header else found

    def some(self, rows: Sequence[int]) -> str:
        """These rows, in this order, under the header if there is one; cells as they are."""
        every = list(self.rows())
        return self._text([every[row] for row in rows], str)

    def with_column(self, name: str, values: Mapping[int, str], without: Collection[int] = ()) -> str:
        """The text with other cells of one column, by row, and without some rows.

        All else is as it is, but for quotes that aren't needed and cells that a spreadsheet would compute.
        """
        place, out = [each.strip() for each in self.names].index(name), set(without)
        found = []
        for number, row in enumerate(self.rows()):
            if number in values and place < len(row):
                row[place] = values[number]
            if number not in out:
                found.append(row)
        return self._text(found, safe)

    def _text(self, rows: Iterable[Sequence[str]], written: Callable[[str], str]) -> str:
        stream = io.StringIO(newline="")
        separator = " " if self.separator == SPACES else self.separator
        writer = csv.writer(stream, delimiter=separator, lineterminator="\r\n" if "\r\n" in self.text else "\n")
        head = [self.names] if self.has_header else []
        writer.writerows([written(cell) for cell in row] for row in (*head, *rows))
        return stream.getvalue()

    def rows(self) -> Iterator[list[str]]:
        """The rows without the header, as they are written."""
        found = _records(self.text, self.separator)
        if self.has_header:
            next(found)
        return found

    def fault(self) -> str:
        """What keeps it from being a table, with the row and the mend; "" where nothing is found."""
        rows = self.rows()
        last, longer = -1, []
        try:
            for last, row in enumerate(rows):
                if len(row) > len(self.names):
                    longer.append((not any(cell.strip() for cell in row[len(self.names) :]), last, len(row)))
        except csv.Error:  # a cell that doesn't end
            last += 1
        if longer:
            _, number, cells = min(longer)  # cells that hold something before those that are blank
            return (
                f"row {number} ({self.where}) has {cells} cells, and the header {len(self.names)}: "
                f"{_short(self.separator.join(self.names))}; put a cell that holds {self.separator!r} in quotes, or "
                "give every column a name"
            )
        if self.text.count('"') % 2:
            where = "the header" if last < 0 else f"row {last} ({self.where})"
            return f"a quote is open from {where} to the end; close it, or write a quote within a cell as two"
        return ""


def written(path: Path) -> Written:
    """Read a file of text; it may be a pipe, which gives its text but once.

    Raises
    ------
    InputError
        If there is no such file, it is no text, or it is empty.
    """
    return as_written(content(path))


def as_written(given: Content) -> Written:
    """The same of bytes that are read already."""
    found = decoded(given.data, given.name)
    text = found.text
    if not text.strip():
        raise InputError(f"{given.name}: is empty; give a CSV with a header line and rows")
    try:
        separator = _separator(text)
        first = next(_records(text, separator))
    except csv.Error:
        raise InputError(
            f"{given.name}: can't be read as a CSV: a cell of its header is longer than {csv.field_size_limit():,} "
            "letters; close the quote that is open there"
        ) from None
    notes = [*given.notes, *([found.note] if found.note else [])]
    has_header = not _is_data(first, _some(text, separator)[1:])
    names = tuple(first) if has_header else tuple(f"column {number}" for number in range(1, len(first) + 1))
    if not has_header:
        notes.append(
            f"the first line holds values and no names ({_short(separator.join(first))}), so it is a row, and the "
            f"columns are called {names[0]!r} to {names[-1]!r}; put a line with names above it if that is wrong"
        )
    return Written(text, separator, names, has_header, tuple(notes), found.note)


def _separator(text: str) -> str:
    """What sets most names of the header apart; where several do so alike, what makes most cells numbers."""
    headers = {separator: len(next(_records(text, separator))) for separator in SEPARATORS}
    most = max(headers.values())
    if most > 1:
        likely = [separator for separator in SEPARATORS if headers[separator] == most]
        return likely[0] if len(likely) == 1 else max(likely, key=lambda each: _fits(text, each))
    counts = Counter(len(line.split()) for line in islice(_lines(text), LOOKED_AT))
    width, rows = counts.most_common(1)[0]
    return SPACES if width > 1 and len(counts) == 1 and rows > 1 else SEPARATORS[0]


def _lines(text: str) -> Iterator[str]:
    return (line for line in io.StringIO(text) if line.strip())


def _fits(text: str, separator: str) -> tuple[float, int]:
    """The share of rows as wide as the first, and how many cells are numbers."""
    rows = _some(text, separator)
    even = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    return even, sum(is_number(cell) for row in rows for cell in row)


def _some(text: str, separator: str) -> list[list[str]]:
    found: list[list[str]] = []
    try:
        for row in islice(_records(text, separator), LOOKED_AT):
            found.append(row)  # noqa: PERF402
    except csv.Error:  # told when the table is read
        pass
    return found or [[""]]


def _is_data(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line looks like the rows: where they hold numbers it does, and they are no years or counts."""
    rows = [row for row in rows if len(row) == len(first)]
    if not rows or not all(cell.strip() for cell in first):
        return False
    numeric = [
        place
        for place in range(len(first))
        if sum(is_number(row[place]) for row in rows) > len(rows) / 2
    ]  # fmt: skip
    if not numeric or not all(is_number(first[place]) for place in numeric):
        return False
    shown = [first[place].strip() for place in numeric]
    recurs = any(
        first[place].strip() in {row[place].strip() for row in rows}
        for place in range(len(first))
        if place not in numeric
    )
    if recurs:
        return True
    are_years = all(COUNTED.fullmatch(cell) for cell in shown)
    are_counts = shown in ([str(place) for place in numeric], [str(place + 1) for place in numeric])
    return (len(numeric) == len(first) and len(set(shown)) < len(shown)) or not (are_years or are_counts)


def _records(text: str, separator: str) -> Iterator[list[str]]:
    """Header and rows, without blank lines."""
    rows = csv.reader(_stream(text, separator), delimiter=separator, skipinitialspace=True)
    return (row for row in rows if len(row) > 1 or any(cell.strip() for cell in row))


def _stream(text: str, separator: str) -> Iterator[str]:
    stream = io.StringIO(text, newline="")
    return (line.strip(" ") for line in stream) if separator == SPACES else stream


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
