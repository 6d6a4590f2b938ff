"""Committed blocks: bytes first, then a small marker with their size and checksum. The truth is the markers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upweight.errors import DamagedFileWarning, InputError, warn
from upweight.store.backend import Backend
from upweight.store.sealed import seal, unseal

MARKERS, BLOCKS = "committed/", "blocks/"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
KEY = re.compile(rf"{NAME.pattern}(/{NAME.pattern})*")
KINDS = {"key": str, "bytes": int, "sha256": str, "facts": dict}


@dataclass(frozen=True)
class Mark:
    """What a marker says of a block.

    Attributes
    ----------
    key
        Where its bytes are.
    size, sha256
        How many, and their checksum.
    facts
        What else is to be known without reading them; JSON's kinds.
    """

    key: str
    size: int
    sha256: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Blocks:
    """The committed blocks of a store."""

    backend: Backend

    def commit(
        self, name: str, content: bytes, *, key: str | None = None, facts: Mapping[str, Any] | None = None
    ) -> Mark:
        """Write a block, then its marker.

        An earlier block of the name is there until then if it has another key; bytes of the same key are replaced at
        once, and a kill before the marker leaves neither.

        Parameters
        ----------
        name
            Letters, digits, ``.``, ``_`` and ``-``.
        key
            Where the bytes go (default: ``blocks/<name>``).

        Raises
        ------
        upweight.files.NotWrittenError
            If one can't be written; then there is no new marker.
        """
        assert NAME.fullmatch(name), name
        mark = Mark(key or f"{BLOCKS}{name}", len(content), hashlib.sha256(content).hexdigest(), dict(facts or {}))
        self.backend.write(mark.key, content)
        said = {"key": mark.key, "bytes": mark.size, "sha256": mark.sha256, "facts": mark.facts}
        self.backend.write(_marker(name), seal(said))
        return mark

    def marks(self, prefix: str = "") -> dict[str, Mark]:
        """The markers of blocks whose names begin so, by name, in order. A damaged one is named, and left out."""
        found = {name: self.mark(name) for name in self.names(prefix)}
        return {name: mark for name, mark in found.items() if mark is not None}

    def names(self, prefix: str = "") -> list[str]:
        """Of all blocks that have markers, whole or not, in order."""
        names = [key[len(MARKERS) : -len(".json")] for key in self.backend.keys(MARKERS) if key.endswith(".json")]
        return [name for name in names if name.startswith(prefix)]

    def mark(self, name: str) -> Mark | None:
        """The marker of a block, None where it is not committed."""
        content = self.backend.read(_marker(name))
        if content is None:
            return None
        said = unseal(content)
        if said is None or {key: type(value) for key, value in said.items()} != KINDS or not KEY.fullmatch(said["key"]):
            warn(f"store: the marker of block {name} in {self.backend} was cut or altered", DamagedFileWarning)
            return None
        return Mark(said["key"], said["bytes"], said["sha256"], said["facts"])

    def content(self, name: str) -> bytes:
        """The bytes of a block.

        Raises
        ------
        InputError
            If it isn't committed, or damaged; the message names it.
        """
        mark = self.mark(name)
        if mark is None:
            raise InputError(f"store: {self.backend} has no block {name}; finish the job that makes it")
        content = self.backend.read(mark.key)
        fault = _fault(mark, content)
        if fault is not None or content is None:
            raise damaged(self.backend, name, mark, str(fault))
        return content

    def fault(self, name: str) -> str | None:
        """What is wrong with a block, in words, all of it read; None if it is committed and whole."""
        mark = self.mark(name)
        return "is not committed" if mark is None else _fault(mark, self.backend.read(mark.key))

    def whole(self, prefix: str = "") -> dict[str, Mark]:
        """As `marks`, each block read and compared with its checksum; damaged ones are named, and left out."""
        found = self.marks(prefix)
        for name, mark in list(found.items()):
            fault = _fault(mark, self.backend.read(mark.key))
            if fault is not None:
                warn(
                    f"store: {mark.key} in {self.backend} (block {name}) {fault}; it is done again", DamagedFileWarning
                )
                del found[name]
        return found

    def remove(self, name: str) -> None:
        """Remove a block, its marker first."""
        mark = self.mark(name)
        self.backend.delete(_marker(name))
        if mark is not None:
            self.backend.delete(mark.key)


def damaged(backend: Backend, name: str, mark: Mark, fault: str) -> InputError:
    """The error that names a block and what is wrong with it."""
    return InputError(
        f"store: {mark.key} in {backend} (block {name}) {fault}; run the job again with resume=True, which does this "
        "block anew, or bring back a copy"
    )


def _marker(name: str) -> str:
    return f"{MARKERS}{name}.json"


def _fault(mark: Mark, content: bytes | None) -> str | None:
    if content is None:
        return "is missing"
    if len(content) != mark.size:
        return f"has {len(content)} bytes instead of {mark.size}"
    return None if hashlib.sha256(content).hexdigest() == mark.sha256 else "was altered: its checksum differs"
