"""One process at a time at one piece of work: a second is refused, and told who is at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


class AlreadyRunningError(RuntimeError):
    """Another process is at the same work, which it would undo or double."""


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Hold ``place`` for as long as the block runs; the lock ends with its process, however that ends.

    Raises
    ------
    AlreadyRunningError
        If another process holds it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    holder = place.with_name(f"{place.name}.process")
    lock = FileLock(place.with_name(f"{place.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = ""
        with suppress(OSError):
            who = f" {holder.read_text()}"
        raise AlreadyRunningError(
            f"another process{who} is at {place.name}; nothing was started. Wait for it, or end it: what it has "
            "finished is kept, and the next run goes on from there"
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()
