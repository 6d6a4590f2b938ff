"""Finished work on disk: a file for each piece, whole or absent, whose first line is the checksum of the rest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from upweight import files, places
from upweight.errors import DamagedFileWarning, InputError, warn


@runtime_checkable
class Keyed(Protocol):
    """What finished work is found by: a name that is equal only for equal work."""

    @property
    def key(self) -> str:
        """Letters that a file's name may hold."""
        ...


@dataclass(frozen=True)
class Folder:
    """Finished work by job, a file each."""

    path: Path
    suffix: str = ".pt"

    @classmethod
    def given(cls, folder: Any) -> Folder | None:
        """The folder of an argument, wherever the work goes meanwhile; None where none was given.

        Raises
        ------
        InputError
            If it is no path.
        """
        if folder is None:
            return None
        return cls(places.place("folder", folder).absolute())

    def place(self, job: Keyed) -> Path:
        """The file of a job, there or not."""
        return self.path / f"{job.key}{self.suffix}"

    def read(self, job: Keyed) -> bytes | None:
        """The content of a job's file, or None where there is none, or none that is whole: a warning names it then.

        Raises
        ------
        InputError
            If there is something under its name that can't be read.
        """
        place = self.place(job)
        try:
            digest, _, content = place.read_bytes().partition(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(
                f"folder: {place} can't be read ({error.strerror or error}); move it away, or give another folder"
            ) from error
        if hashlib.sha256(content).hexdigest().encode() == digest:
            return content
        warn(
            f"folder: {place} is damaged, or of an earlier version that kept no checksums; its work is done again",
            DamagedFileWarning,
        )
        return None

    def commit(self, job: Keyed, content: bytes) -> None:
        """Write a job's file, with its checksum, whole or not at all.

        Raises
        ------
        upweight.files.NotWrittenError
            If it can't be written; the others are as they were.
        """
        files.write(self.place(job), hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    def check(self) -> None:
        """Refuse a folder that nothing could be written to, before work.

        Raises
        ------
        upweight.files.NotWrittenError
            If it isn't one, or can't be made or written to.
        """
        if self.path.exists() and not self.path.is_dir():
            raise files.NotWrittenError(f"folder: {self.path} is no folder; give another path")
        files.check(self.path / f"any{self.suffix}")
