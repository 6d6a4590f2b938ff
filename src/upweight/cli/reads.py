"""Files that were opened for reading while a command ran: what it read beside what it was given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READING = (os.O_RDONLY, os.O_RDWR)


@dataclass(frozen=True)
class Reads:
    """The files, by path and by what the system knows them by."""

    paths: set[str] = field(default_factory=set)
    numbers: dict[tuple[int, int], str] = field(default_factory=dict)

    def note(self, path: str) -> None:
        """A file that is being opened."""
        place = os.path.abspath(path)
        if place in self.paths:
            return
        try:
            status = os.stat(place)
        except (OSError, ValueError):  # there is none, and the reader will say so
            return
        self.paths.add(place)
        self.numbers[status.st_dev, status.st_ino] = place

    def find(self, path: Path) -> str | None:
        """Under which name this file was read, by whatever link; None if it wasn't."""
        for place in (os.path.abspath(path), os.path.realpath(path)):
            if place in self.paths:
                return place
        try:
            status = os.stat(path)
        except OSError:
            return None
        return self.numbers.get((status.st_dev, status.st_ino))


_open: list[Reads] = []
"""Those that are being kept; Python's audit hooks can't be taken back, so one does for all."""
_watching: list[bool] = []


@contextmanager
def recorded() -> Iterator[Reads]:
    """Note every file that Python opens for reading meanwhile, in this process."""
    if not _watching:
        sys.addaudithook(_watch)
        _watching.append(True)
    reads = Reads()
    _open.append(reads)
    try:
        yield reads
    finally:
        _open.remove(reads)


def now() -> Reads:
    """What the command that runs has read so far; nothing where none does."""
    return _open[-1] if _open else Reads()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _open:
        return
    path, _, flags = arguments
    if isinstance(path, int) or not isinstance(flags, int) or (flags & os.O_ACCMODE) not in READING:
        return
    if flags & os.O_TRUNC:  # emptied, and so its own
        return
    try:
        name = os.fsdecode(path)
    except (TypeError, ValueError):
        return
    for reads in tuple(_open):
        reads.note(name)
