"""A folder whose marker names its data, with their sizes and checksums.

Data go into a new folder inside, then the marker is replaced at once, then the data that no marker names are removed:
at every moment the old result is there or the new one. A data folder is locked while its writer lives, so that what
a killed one left can be told from what another is writing.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from upweight import files
from upweight.errors import InputError
from upweight.places import unusable

T = TypeVar("T")

DATA = re.compile(r"upweight-data-[0-9a-f]{16}")
"""Names that nobody else gives: a folder of a user's own may be called data-20261128."""


BEGIN = re.compile(rb"[0-9a-f]{0,64}|[0-9a-f]{64}\n")
"""How a marker begins, be it cut."""


@dataclass(frozen=True)
class Marked:
    """What a marker says: ``description`` is the user's of this room, ``data`` the folder that it names, checked."""

    description: dict[str, Any]
    data: Path


def save(path: Path, marker: str, description: dict[str, Any], fill: Callable[[Path], object]) -> None:
    """Write ``fill``'s data and the description, in place of what the folder held.

    Whether the place may be written to is for the caller to see (`refuse_other`).

    Raises
    ------
    upweight.files.NotWrittenError
        If the disk is full, or the folder can't be written to; what was there is as it was.
    """
    data, previous = path / f"upweight-data-{secrets.token_hex(8)}", _named_if_any(path / marker)
    # The marker is asked even after an interrupt: it may have been in place by then.
    with _gone_if_empty(path), files.new_folder(data, lambda: _may_be_named(path / marker, data)):
        fill(data)
        files.sync(data)
        said = {"data": data.name, "files": _checksums(data), "description": description}
        text = json.dumps(said, indent=1).encode()
        files.write(path / marker, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    for other in path.iterdir():
        if DATA.fullmatch(other.name) or other.name == previous:  # earlier versions named them otherwise
            files.remove_if_free(other, lambda folder: folder.name != _named(path / marker))


def read(path: Path, marker: str, use: Callable[[Marked], T]) -> T:
    """What ``use`` makes of the folder's content, every byte of which is checked first.

    Where another process replaces the result meanwhile, all is read again: data go only after their marker.

    Raises
    ------
    InputError
        If there is no such marker, or it or a file is missing, cut or altered; the message names it.
    """
    try:
        while True:
            said = _said(path / marker)
            try:
                found = use(_checked(path, said))
            except (InputError, OSError):
                if _said(path / marker) == said:
                    raise
            else:
                if _said(path / marker) == said:
                    return found
    except OSError as error:
        file = error.filename or path
        raise InputError(
            f"path: {file} can't be read ({error.strerror or error}); see to it, or give a copy"
        ) from error


def is_marked(path: Path, marker: str) -> bool:
    """Whether the folder has such a marker, whole or not."""
    return (path / marker).is_file()


def refuse_other(path: Path, marker: str) -> None:
    """Refuse a place that holds anything but a result of this kind, or what a killed writer left of one."""
    if any(DATA.fullmatch(place.name) for place in (path, *path.absolute().parents)):
        raise InputError(f"path: {path} lies in the data of another saved attribution; choose another path")
    if not path.exists() or (is_marked(path, marker) and _is_ours(path, path / marker)):
        return
    draft = re.compile(rf"\.{re.escape(marker)}\.[0-9a-f]{{8}}\.draft")
    if not path.is_dir() or not all(
        DATA.fullmatch(entry.name) or draft.fullmatch(entry.name) for entry in path.iterdir()
    ):
        raise InputError(f"path: {path} exists and is not a saved attribution; choose another path")


def _is_ours(path: Path, marker: Path) -> bool:
    """Whether a marker begins as ours do, cut or not, or is a file beside data of ours: not a user's of that name."""
    with marker.open("rb") as file:
        begin = file.read(65)
    if BEGIN.fullmatch(begin):
        return True
    return not marker.is_symlink() and any(DATA.fullmatch(entry.name) for entry in path.iterdir())


@contextmanager
def _gone_if_empty(path: Path) -> Iterator[None]:
    """A folder that was made for what couldn't be written doesn't stay."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it holds an earlier result
            path.rmdir()
        raise


def _said(marker: Path) -> dict[str, Any]:
    if marker.exists() and not marker.is_file():  # a pipe would be waited for
        raise _damaged(marker, "is no file")
    try:
        digest, _, text = marker.read_bytes().partition(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"path: {marker.parent} holds no saved attribution; it has no {marker.name}") from None
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise _damaged(marker, "was cut or altered")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(marker, "is no JSON below its first line") from None
    form = {"data": str, "files": dict, "description": dict}
    if not isinstance(said, dict) or {name: type(value) for name, value in said.items()} != form:
        raise _damaged(marker, f"doesn't hold {', '.join(form)}")
    if not DATA.fullmatch(said["data"]):
        raise _damaged(marker, f"names {said['data']!r}, which is no folder of its own")
    return said


def _named(marker: Path) -> str:
    return str(_said(marker)["data"])


def _named_if_any(marker: Path) -> str | None:
    try:
        return _named(marker)
    except (InputError, OSError):
        return None


def _may_be_named(marker: Path, data: Path) -> bool:
    try:
        return _named(marker) == data.name
    except InputError:  # no marker, or none that names anything
        return False
    except OSError:  # it can't be read now; the next save will see
        return True


def _checked(path: Path, said: dict[str, Any]) -> Marked:
    data = path / said["data"]
    for name, expected in said["files"].items():
        file = data / name
        if not _is_inside(name):
            raise _damaged(path, f"names {name[:80]!r}, which can be no file of its own")
        if not file.is_file():
            raise _damaged(file, "is missing")
        found = _checksum(file)
        if not isinstance(expected, dict) or expected.keys() != found.keys():
            raise _damaged(path, f"says {expected!r} of {file}")
        if found["bytes"] != expected["bytes"]:
            raise _damaged(file, f"has {found['bytes']} bytes instead of {expected['bytes']}")
        if found["sha256"] != expected["sha256"]:
            raise _damaged(file, "was altered: its checksum differs")
    unknown = _names(data) - said["files"].keys()
    if unknown:
        raise _damaged(data / min(unknown), "is none of its files")
    return Marked(said["description"], data)


def _names(data: Path) -> set[str]:
    """All that is there but plain folders: files, and pipes and links, which are none of ours."""
    found = (file for file in data.rglob("*") if file.is_symlink() or not file.is_dir())
    return {file.relative_to(data).as_posix() for file in found}


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and unusable(Path(name)) is None


def _checksums(data: Path) -> dict[str, dict[str, Any]]:
    return {name: _checksum(data / name) for name in sorted(_names(data))}


def _checksum(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _damaged(file: Path, what: str) -> InputError:
    return InputError(
        f"path: the saved attribution is damaged: {file} {what}; compute and save it again, or bring back a copy"
    )
