"""A CSV as it is written: read once, with its separator and the names in its header; what can't be one is refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from upweight.errors import InputError

SEPARATORS = ",;\t|"
SHOWN = 60
"""Letters of a line in a message."""


@dataclass(frozen=True)
class Written:
    """The text of a CSV."""

    text: str
    separator: str
    names: tuple[str, ...]

    def stream(self) -> io.StringIO:
        """The text, to read from its beginning."""
        return io.StringIO(self.text, newline="")

    def some(self, rows: Sequence[int]) -> str:
        """The header and these rows, counted from 0 under it, in this order, as a CSV of the same separator."""
        header, *every = _records(self.text, self.separator)
        stream = io.StringIO(newline="")
        csv.writer(stream, delimiter=self.separator, lineterminator="\n").writerows(
            [header, *(every[row] for row in rows)]
        )
        return stream.getvalue()

    def fault(self) -> str:
        """What keeps it from being a table, with the row and the mend; "" where nothing is found."""
        rows = _records(self.text, self.separator)
        next(rows)
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
                f"row {number} (counted from 0 under the header) has {cells} cells, and the header {len(self.names)}: "
                f"{_short(self.separator.join(self.names))}; put a cell that holds {self.separator!r} in quotes, or "
                "give every column a name"
            )
        if self.text.count('"') % 2:
            where = "the header" if last < 0 else f"row {last} (counted from 0 under the header)"
            return f"a quote is open from {where} to the end; close it, or write a quote within a cell as two"
        return ""


def written(path: Path) -> Written:
    """Read a file; it may be a pipe, which gives its text but once.

    Raises
    ------
    InputError
        If there is no such file, it is no UTF-8 text, or it is empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a CSV file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save it as a UTF-8 CSV") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}: is no text, a zero byte stands in line {line}; save it as a UTF-8 CSV")
    if not text.strip():
        raise InputError(f"{path}: is empty; give a CSV with a header line and rows")
    try:
        headers = {separator: next(_records(text, separator)) for separator in SEPARATORS}
    except csv.Error:
        raise InputError(
            f"{path}: can't be read as a CSV: a cell of its header is longer than {csv.field_size_limit():,} letters; "
            "close the quote that is open there"
        ) from None
    separator = max(SEPARATORS, key=lambda each: len(headers[each]))
    return Written(text, separator, tuple(headers[separator]))


def _records(text: str, separator: str) -> Iterator[list[str]]:
    """Header and rows, without blank lines."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    return (row for row in rows if len(row) > 1 or any(cell.strip() for cell in row))


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
