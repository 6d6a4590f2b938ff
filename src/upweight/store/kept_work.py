"""Finished work on disk: a file for each piece, whole or absent, whose first line is the checksum of the rest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from upweight import files
from upweight.messages import DamagedFileWarning, warn


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

    def _place(self, job: Keyed) -> Path:
        return self.path / f"{job.key}{self.suffix}"

    def read(self, job: Keyed) -> bytes | None:
        """The content of a job's file, or None where there is none, or none that is whole: a warning names it then."""
        place = self._place(job)
        try:
            digest, _, content = place.read_bytes().partition(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return None
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
        files.write(self._place(job), hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    def check(self) -> None:
        """Refuse a folder that nothing could be written to, before work.

        Raises
        ------
        upweight.files.NotWrittenError
            If it isn't one, or can't be made or written to.
        """
        files.check(self.path / f"any{self.suffix}")
