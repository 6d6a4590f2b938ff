"""Where a store's bytes are: a local folder, any place that fsspec knows, or this process's memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from upweight import files
from upweight.errors import InputError
from upweight.optional import imported
from upweight.places import place

if TYPE_CHECKING:
    from zarr.abc.store import Store

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"


@runtime_checkable
class Backend(Protocol):
    """Bytes by key. Keys are names of files below the store, parts separated by ``/``."""

    def read(self, key: str) -> bytes | None:
        """The content of a key, or None where there is none."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Put content under a key, whole or not at all, in place of what was there.

        Raises
        ------
        upweight.files.NotWrittenError
            If it can't be written; what was there is as it was.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove a key, if it is there."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """All keys directly below a prefix that ends in ``/`` (or ``""``), sorted."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes under a key, or None where there is none."""
        ...

    def append(self, key: str, content: bytes) -> None:
        """Add to what is under a key: for logs, of which nothing is asked after a kill."""
        ...

    def arrays(self) -> Store:
        """The same bytes as a zarr store, to be read only."""
        ...

    def held(self) -> Any:
        """A context in which no other process works on this store.

        Raises
        ------
        InputError
            If one does.
        """
        ...


Place = str | os.PathLike[str] | Backend
"""Where a store is: a folder, a URL, or a backend."""


def backend(store: Any, name: str = "store") -> Backend:
    """What an argument means: a path, a URL (``s3://…``, ``memory://…``: needs fsspec), or a backend itself.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(store, Backend) and not isinstance(store, type):
        return store
    if isinstance(store, str) and "://" in store:
        return Remote(store)
    return Local(place(name, store).absolute())


@dataclass(frozen=True)
class Local:
    """A folder of this machine, or one that several share.

    Attributes
    ----------
    path
        The folder, made when something is first written; keys are files below it.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, key: str) -> bytes | None:
        """See `Backend`.

        Raises
        ------
        InputError
            If something is under the key that can't be read: a folder, or what isn't this user's.
        """
        try:
            return (self.path / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(
                f"store: {self.path / key} can't be read ({error.strerror or error}); see to it, or give another store"
            ) from error

    def write(self, key: str, content: bytes) -> None:
        """See `Backend`."""
        files.write(self.path / key, content)

    def delete(self, key: str) -> None:
        """See `Backend`."""
        (self.path / key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> list[str]:
        """See `Backend`."""
        try:
            with os.scandir(self.path / prefix) as entries:
                return sorted(prefix + entry.name for entry in entries if entry.is_file() and entry.name[0] != ".")
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, key: str) -> int | None:
        """See `Backend`."""
        try:
            return (self.path / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def append(self, key: str, content: bytes) -> None:
        """See `Backend`."""
        with (self.path / key).open("ab") as file:
            file.write(content)

    def arrays(self) -> Store:
        """See `Backend`."""
        from zarr.storage import LocalStore

        return LocalStore(self.path, read_only=True)

    def holder(self) -> str | None:
        """Which process works here, as ``process on machine``; None where none does, or locks don't tell."""
        if fcntl is None:
            return None
        try:
            descriptor = os.open(self.path / LOCK, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "unknown"
        except OSError:  # a file system without locks
            return None
        finally:
            os.close(descriptor)
        return None

    @contextmanager
    def held(self) -> Iterator[None]:
        """See `Backend`. The lock goes with the process that has it, however that ends.

        Raises
        ------
        InputError
            If another process works here (says which), or the store is a file.
        upweight.files.NotWrittenError
            If the folder can't be written to.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"store: {self.path} is a file, and a store is a folder; give another place")
        file = self.path / LOCK
        if not file.exists():
            files.write(file, b"")
        try:
            descriptor = os.open(file, os.O_RDWR)
        except OSError as error:
            raise files.NotWrittenError(
                f"store: {self.path} can't be written to ({error.strerror or error}); choose another place"
            ) from error
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    who = os.read(descriptor, 100).decode(errors="replace").strip()
                    raise InputError(
                        f"store: another process ({who or 'unknown'}) works on {self.path}; wait until it ends, or "
                        "give another store"
                    ) from None
                except OSError:  # a file system without locks
                    pass
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} on {platform.node()}\n".encode())
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Remote:
    """A place that fsspec knows, by its URL. Who works on it is not locked there.

    Attributes
    ----------
    url
        Such as ``s3://bucket/folder``.
    options
        What fsspec takes beside it: keys, endpoints.
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        self._fs()  # a protocol that nobody knows is refused here

    def __str__(self) -> str:
        return self.url

    def _fs(self) -> tuple[Any, str]:
        with imported("remote", f"store={self.url!r}"):
            import fsspec
        try:
            return fsspec.core.url_to_fs(self.url.rstrip("/"), **self.options)
        except (ValueError, ImportError) as error:
            raise InputError(f"store: {self.url!r} can't be opened: {error}") from error

    def read(self, key: str) -> bytes | None:
        """See `Backend`."""
        fs, root = self._fs()
        try:
            return bytes(fs.cat_file(f"{root}/{key}"))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, key: str, content: bytes) -> None:
        """See `Backend`."""
        fs, root = self._fs()
        path = f"{root}/{key}"
        try:
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(path, content)
        except OSError as error:
            raise files.NotWrittenError(
                f"{self.url}/{key}: can't be written ({error}); choose another place"
            ) from error

    def delete(self, key: str) -> None:
        """See `Backend`."""
        fs, root = self._fs()
        if fs.exists(f"{root}/{key}"):
            fs.rm_file(f"{root}/{key}")

    def keys(self, prefix: str) -> list[str]:
        """See `Backend`."""
        fs, root = self._fs()
        try:
            found = fs.ls(f"{root}/{prefix}".rstrip("/"), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(prefix + entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "file")

    def size(self, key: str) -> int | None:
        """See `Backend`."""
        fs, root = self._fs()
        try:
            return int(fs.size(f"{root}/{key}"))
        except FileNotFoundError:
            return None

    def append(self, key: str, content: bytes) -> None:
        """See `Backend`."""
        self.write(key, (self.read(key) or b"") + content)

    def arrays(self) -> Store:
        """See `Backend`."""
        from zarr.storage import FsspecStore

        fs, root = self._fs()
        return FsspecStore.from_mapper(fs.get_mapper(root), read_only=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """See `Backend`; nobody is kept out here, and blocks are pure, so that what is done twice is the same."""
        yield


@dataclass(frozen=True, eq=False)
class Memory:
    """This process's memory: for tests, and for work that needs no disk.

    Attributes
    ----------
    content
        What it holds, by key; empty unless something is given.
    """

    content: dict[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        return "memory"

    def __reduce__(self) -> Any:
        raise InputError("store: memory belongs to one process; give a folder, or an executor within this process")

    def read(self, key: str) -> bytes | None:
        """See `Backend`."""
        return self.content.get(key)

    def write(self, key: str, content: bytes) -> None:
        """See `Backend`."""
        self.content[key] = bytes(content)

    def delete(self, key: str) -> None:
        """See `Backend`."""
        self.content.pop(key, None)

    def keys(self, prefix: str) -> list[str]:
        """See `Backend`."""
        return sorted(key for key in self.content if key.startswith(prefix) and "/" not in key[len(prefix) :])

    def size(self, key: str) -> int | None:
        """See `Backend`."""
        content = self.content.get(key)
        return None if content is None else len(content)

    def append(self, key: str, content: bytes) -> None:
        """See `Backend`."""
        self.content[key] = self.content.get(key, b"") + content

    def arrays(self, *, read_only: bool = True) -> Store:
        """See `Backend`."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.storage import MemoryStore

        make = default_buffer_prototype().buffer.from_bytes
        return MemoryStore({key: make(value) for key, value in self.content.items()}, read_only=read_only)

    @contextmanager
    def held(self) -> Iterator[None]:
        """See `Backend`."""
        yield
