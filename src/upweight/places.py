"""Where something is on disk, as the user says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from upweight.errors import InputError

LONGEST = 255
"""Bytes of a name that file systems take."""
LONGEST_PATH = 4095
"""Bytes of a whole path."""


def place(name: str, value: Any) -> Path:
    """A path.

    Raises
    ------
    InputError
        If it is none, or no file system could hold it.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str) or not os.fspath(value):
        raise InputError(f"{name}: give the name of a file or folder; got {value!r}")
    path = Path(value)
    fault = unusable(path)
    if fault is not None:
        raise InputError(f"{name}: {fault}; give another name")
    return path


def unusable(path: Path) -> str | None:
    """Why nothing can be at this path, in words; None where something may be."""
    for part in path.parts:
        if "\0" in part:
            return f"{part!r} holds a zero byte"
        try:
            size = len(os.fsencode(part))
        except UnicodeEncodeError:
            return f"{part!r} can't be encoded"
        if size > LONGEST:
            return f"{part[:40]!r}… is {size:,} bytes long, and names have {LONGEST} at most"
    try:
        whole = len(os.fsencode(path.absolute()))
    except FileNotFoundError:
        return f"{str(path)!r} is in the current folder, which is no more"
    return f"it is {whole:,} bytes long, and paths have {LONGEST_PATH:,} at most" if whole > LONGEST_PATH else None
