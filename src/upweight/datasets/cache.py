"""The cache: one folder per data set, complete or absent.

An entry is a folder with the data's files and ``entry.json``, which lists each file's size and SHA-256.
Entries are prepared elsewhere on the same filesystem and renamed into place, so that a half-written one is
never seen.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

from upweight.datasets.registry import DatasetInfo
from upweight.optional import imported

_MANIFEST = "entry.json"


def root() -> Path:
    """The folder of all data sets: under ``$UPWEIGHT_CACHE`` if set, else in the user's cache folder."""
    chosen = os.environ.get("UPWEIGHT_CACHE")
    return (Path(chosen).expanduser() if chosen else _users_own()).absolute() / "datasets"


def _users_own() -> Path:
    with imported("data", "upweight.datasets"):
        import platformdirs

    return Path(platformdirs.user_cache_dir("upweight"))


def entry_path(info: DatasetInfo) -> Path:
    """Where the data set's entry is, or would be."""
    return root() / info.key


def seal(entry: Path, info: DatasetInfo) -> None:
    """Write the manifest of a prepared entry: its packages, and size and SHA-256 of each of its files."""
    files = {
        path.relative_to(entry).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(entry.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "dataset": info.name,
        "packages": [archive.pinned for archive in info.archives],
        "files": files,
    }
    (entry / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def is_complete(entry: Path) -> bool:
    """Whether the entry is there with all its files at their full sizes. Reads no content."""
    return _signature(entry) is not None


def is_intact(entry: Path) -> bool:
    """Whether the entry is complete and its content still has the recorded checksums.

    The content is read once per process, and again whenever a file's size or time has changed.
    """
    signature = _signature(entry)
    return signature is not None and _content_matches(entry, signature)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _manifest(entry: Path) -> dict[str, tuple[int, str]] | None:
    try:
        files = json.loads((entry / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return {name: (int(file["bytes"]), str(file["sha256"])) for name, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _signature(entry: Path) -> tuple[tuple[str, int, int], ...] | None:
    files = _manifest(entry)
    if not files:
        return None
    found = []
    for name, (size, _) in files.items():
        try:
            status = (entry / name).stat()
        except OSError:
            return None
        if status.st_size != size:
            return None
        found.append((name, status.st_size, status.st_mtime_ns))
    return tuple(found)


@functools.lru_cache(maxsize=64)
def _content_matches(entry: Path, signature: tuple[tuple[str, int, int], ...]) -> bool:
    """``signature`` is part of the key only: a changed file is read again."""
    files = _manifest(entry)
    return files is not None and all(sha256(entry / name) == digest for name, (_, digest) in files.items())
