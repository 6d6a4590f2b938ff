"""Files written whole or not at all: the one way in which the package puts anything on disk.

A file is written beside its place, under a hidden name that ends in ``.draft``, brought to the disk, and renamed into
place; so a reader sees the old content or the new one, and a kill at any moment loses neither. A draft is locked while
its process lives: what a killed one left is known by its free lock, and the next write to the same place clears it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open can't be removed, which says as much
    fcntl = None  # type: ignore[assignment]

Content = bytes | str | Callable[[IO[bytes]], object]
"""A file's content: bytes, text (as UTF-8), or a function that writes it into a stream."""

_TOKEN = r"[0-9a-f]{8}"


class NotWrittenError(OSError):
    """A file could not be written; the message names it and the cause. What was there before is as it was."""


def write(path: str | os.PathLike[str], content: Content, *, replace: bool = True) -> Path:
    """Write one file whole or not at all, and return its path; folders above it are made.

    Parameters
    ----------
    path
        Where it goes. A link is followed, so what it points to gets the content.
    content
        Bytes, text (as UTF-8), or a function that writes into a stream.
    replace
        Whether a file that is there may be replaced.

    Raises
    ------
    NotWrittenError
        If the disk is full, the folder can't be written to, or the like.
    FileExistsError
        If there is a file and ``replace`` is False.
    """
    return write_all({Path(path): content}, replace=replace)[0]


def write_all(contents: Mapping[Path, Content], *, replace: bool = True) -> list[Path]:
    """Write several files that belong together: all drafts are on the disk before the first is renamed into place.

    As `write`; where one can't be written, none is.
    """
    with ExitStack() as stack:
        drafts = [(path, stack.enter_context(_drafted(path, content))) for path, content in contents.items()]
        written = [draft.stat() for _, draft in drafts]
        try:
            for path, draft in drafts:
                _place(draft, path, replace=replace)
        except BaseException:
            if not replace:  # then what is in its place already is new, and ours
                for (path, _), status in zip(drafts, written, strict=True):
                    _remove_if(path, status)
            raise
        return [path for path, _ in drafts]


@contextmanager
def new_folder(place: Path, wanted: Callable[[], bool]) -> Iterator[None]:
    """A new folder, locked while it is open, so that `remove_if_free` leaves it alone.

    It is removed at the end, whatever that was, unless ``wanted`` then says that it stays.

    Raises
    ------
    NotWrittenError
        If something in it can't be written.
    """
    lock = None
    with _told(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir()
    try:
        with _told(place):
            lock = _locked_folder(place)
            yield
    finally:
        try:
            if not wanted():
                shutil.rmtree(place, ignore_errors=True)
        finally:
            if lock is not None:
                os.close(lock)


def check(place: Path) -> None:
    """Refuse a place for a file that couldn't be written; nothing is left there, nor made.

    Raises
    ------
    NotWrittenError
        If it is a folder, a device, a link to itself, its folder can't be made or written to, or its name is too long.
    """
    with _told(place):
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if place.exists() and not place.is_file():  # a device or a pipe: a rename would put a file in its place
            raise OSError(errno.EINVAL, "it is no file")
        target = _draft_name(_resolved(place))
        target.exists()  # a name that is too long is an error
        folder = target.parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder")
        with tempfile.TemporaryFile(dir=folder):
            pass


def clear(place: Path) -> list[Path]:
    """Remove the drafts of ``place`` that no living process holds, and return them."""
    return clear_all(place.parent, re.escape(place.name))


def clear_all(folder: Path, names: str) -> list[Path]:
    """As `clear`, of all places in a folder whose names match this regular expression."""
    pattern = re.compile(rf"\.(?:{names})\.{_TOKEN}\.draft")
    try:
        found = [folder / name for name in os.listdir(folder) if name[0] == "." and pattern.fullmatch(name)]
    except OSError:  # no such folder, or none that can be read: nothing to clear
        return []
    return [draft for draft in found if remove_if_free(draft)]


def remove_if_free(place: Path, unwanted: Callable[[Path], bool] = lambda place: True) -> bool:
    """Remove a draft or a folder whose writer is no more; whether that was done.

    ``unwanted`` is asked while nobody else can hold it.
    """
    if fcntl is None:
        if place.is_dir():
            return False
        with suppress(OSError):
            place.unlink()
        return not place.exists()
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except OSError:  # gone meanwhile, or another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # What was opened may be gone, and another's be at its place.
        if not _is_at(descriptor, place) or not unwanted(place):
            return False
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
        return True
    except OSError:  # held by a living process, or there are no locks here
        return False
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Bring a file, or a folder with everything below it, to the disk."""
    if path.is_dir():
        for below in path.iterdir():
            sync(below)
        _sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _drafted(path: Path, content: Content) -> Iterator[Path]:
    """A draft of the file with its content, on the disk; removed at the end if it is still there."""
    with _told(path):
        path = _resolved(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        clear(path)
        draft, file = _open_draft(path)
    try:
        with _told(path):
            if isinstance(content, str):
                content = content.encode("utf-8", errors="backslashreplace")
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        if fcntl is None:  # Windows renames no open file
            file.close()
        yield draft  # still open, so still locked
    finally:
        draft.unlink(missing_ok=True)
        with suppress(
            OSError
        ):  # what a full disk didn't take is flushed once more, and the first error says which file
            file.close()


def _place(draft: Path, path: Path, *, replace: bool) -> None:
    target = _resolved(path)
    if not replace:
        _place_new(draft, target)
    with _told(path):
        if replace:
            os.replace(draft, target)
        _sync_folder(target.parent)


def _resolved(path: Path) -> Path:
    """Where links lead; one that leads to itself is an error in every version of Python, where since 3.13 it stays."""
    found = path.resolve()
    if found.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return found


def _remove_if(path: Path, status: os.stat_result) -> None:
    """Remove a file if it is the one that had this status, under whatever name.

    Asked of the system rather than kept in mind, since an interrupt may come between the deed and the note of it.
    """
    with suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), status):
            path.resolve().unlink()


def _place_new(draft: Path, target: Path) -> None:
    """Rename a draft to a name that nothing has: a link fails where a file is there, a rename would not."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: take the name first
        target.touch(exist_ok=False)
        try:
            os.replace(draft, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _draft_name(place: Path) -> Path:
    return place.with_name(f".{place.name}.{secrets.token_hex(4)}.draft")


def _open_draft(path: Path) -> tuple[Path, IO[bytes]]:
    """A new draft, open and locked. Opened rather than made by tempfile, whose files only their owner can read."""
    while True:
        draft = _draft_name(path)
        file = draft.open("xb")
        _lock(file.fileno())
        if fcntl is None or os.fstat(file.fileno()).st_nlink:  # else cleared by another before it was locked
            return draft, file
        file.close()


def _lock(descriptor: int) -> None:
    """Lock a draft of ours; where a file system knows no locks, nobody can take it for left behind either."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _locked_folder(folder: Path) -> int | None:
    """Lock a folder of ours; it is made again where another cleared it, as one left behind, before it was locked."""
    if fcntl is None:
        return None
    while True:
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            _lock(descriptor)
            if _is_at(descriptor, folder):
                return descriptor
            os.close(descriptor)
        folder.mkdir(exist_ok=True)


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _sync_folder(folder: Path) -> None:
    if fcntl is None:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems can't bring a folder to the disk
        pass
    finally:
        os.close(descriptor)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of the system as one that names the file."""
    try:
        yield
    except NotWrittenError:
        raise
    except (OSError, RuntimeError) as error:
        cause = _of_system(error)
        if cause is None:
            raise
        raise NotWrittenError(
            f"{path}: can't be written ({cause.strerror or cause}); free some space or choose another place. What was "
            "there is as it was"
        ) from error


def _of_system(error: BaseException | None) -> OSError | None:
    """The system's error behind this one: torch.save tells of a full disk as a RuntimeError that came of it."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # of Path.resolve, before 3.13
            return OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        error = error.__cause__ or error.__context__
    return None
