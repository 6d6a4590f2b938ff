"""The bytes of a table, wherever they come from: a file, a pipe, standard input; unpacked where they are compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upweight.errors import InputError

STANDARD_INPUT = Path("-")
EXCEL, PARQUET, TEXT = "Excel", "Parquet", "text"
LARGEST = 2**33
"""Bytes of an unpacked table beyond which it is refused: what little bytes unpack to may fill any memory."""
PACKED: Mapping[bytes, tuple[str, Callable[[bytes], io.BufferedIOBase]]] = {
    b"\x1f\x8b": ("gzip", lambda data: gzip.GzipFile(fileobj=io.BytesIO(data))),
    b"BZh": ("bzip2", lambda data: bz2.BZ2File(io.BytesIO(data))),
    b"\xfd7zXZ\x00": ("xz", lambda data: lzma.LZMAFile(io.BytesIO(data))),  # noqa: SIM115
}
"""By what they begin with."""
OTHERS = {
    b"\x28\xb5\x2f\xfd": "is compressed by zstd",
    b"7z\xbc\xaf": "is a 7z archive",
    b"\xd0\xcf\x11\xe0": "is an Excel file of the old kind (.xls), or another old Office file",
    b"SQLite format 3": "is an SQLite database",
    b"%PDF": "is a PDF",
}


@dataclass(frozen=True)
class Content:
    """A table's bytes, unpacked; ``kind`` is one of `EXCEL`, `PARQUET` and `TEXT`, ``notes`` what was done."""

    name: str
    data: bytes
    kind: str
    notes: tuple[str, ...] = ()


def content(path: Path) -> Content:
    """Read a file, ``-`` for standard input; what it holds is told by its bytes, not by its name.

    Raises
    ------
    InputError
        If there is no such file, it can't be unpacked, or it is of a kind that isn't read.
    """
    name = called(path)
    data, notes = _bytes(path, name), []
    for start, (kind, opened) in PACKED.items():
        if data.startswith(start):
            try:
                data = _all(opened(data), name)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise InputError(f"{name}: can't be unpacked, its {kind} is damaged ({error})") from None
            notes.append(f"unpacked by {kind}")
            break
    kind = _kind(data)
    if kind == "zip":
        data, member = _member(data, name)
        notes.append(f"{member} was read from the archive")
        kind = _kind(data)
    odd = next((words for start, words in OTHERS.items() if data.startswith(start)), "")
    if odd or kind == "zip":
        raise InputError(f"{name}: {odd or 'is an archive in an archive'}; save the table as CSV, Parquet or .xlsx")
    return Content(name, data, kind, tuple(notes))


def called(path: Path) -> str:
    """How a source is called."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def _bytes(path: Path, name: str) -> bytes:
    if path == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError("-: standard input is a terminal; pipe a table into the command, or name a file")
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder; give the file of a table") from None


def _kind(data: bytes) -> str:
    if data.startswith(b"PAR1"):
        return PARQUET
    if not data.startswith(b"PK\x03\x04"):
        return TEXT
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except zipfile.BadZipFile:
        return "zip"
    return EXCEL if "xl/workbook.xml" in names else "zip"


def _member(data: bytes, name: str) -> tuple[bytes, str]:
    """The one file of an archive, with its name."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        files = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX/")]
        if len(files) != 1:
            raise InputError(f"{name}: holds {len(files)} files ({', '.join(files[:5])}); give one of them")
        with archive.open(files[0]) as stream:
            return _all(stream, name), files[0]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error) as error:
        raise InputError(f"{name}: can't be unpacked ({error}); unpack it, and give the file") from None


def _all(stream: Any, name: str) -> bytes:
    with stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InputError(f"{name}: unpacks to more than {LARGEST / 2**30:.0f} GiB; unpack it, and give fewer rows")
    return data
