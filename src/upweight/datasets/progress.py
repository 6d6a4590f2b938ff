"""Progress of a fetch on the terminal; silent when standard error is not one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_POLL_SECONDS = 0.2


@contextlib.contextmanager
def downloading(label: str, folder: Path, total: int, show: bool) -> Iterator[None]:
    """Show bytes so far out of ``total`` while the body runs, by watching what is written under ``folder``.

    Package clients report progress each in their own way, if at all; the size of their files is there to see.
    """
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total)
        done = threading.Event()

        def poll() -> None:
            while not done.wait(_POLL_SECONDS):
                # A client may keep a working copy beside the file: never show more than all.
                progress.update(task, completed=min(bytes_under(folder), total))

        poller = threading.Thread(target=poll, daemon=True)
        poller.start()
        try:
            yield
            progress.update(task, completed=total)
        finally:
            done.set()
            poller.join()


@contextlib.contextmanager
def working(label: str, show: bool) -> Iterator[None]:
    """Show a spinner and the elapsed time while the body runs."""
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        progress.add_task(label, total=None)
        yield


def bytes_under(folder: Path) -> int:
    """Sizes of all files under ``folder``, in bytes; files may come and go meanwhile."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, file)).st_size
    return total
