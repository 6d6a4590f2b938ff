"""Progress bars on long work, seen only by people: nothing is drawn where the error stream is no terminal.

One bar at a time: work within work that already shows how far it is draws none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

_drawing: ContextVar[bool] = ContextVar("drawing", default=False)


def track(items: Iterable[T], description: str | Callable[[], str], total: int | None = None) -> Iterator[T]:
    """Walk through ``items`` under a progress bar with elapsed and remaining time.

    ``description``: the words beside the bar, or a function that is asked for them before each item.
    """
    console = Console(stderr=True)
    if _drawing.get() or not console.is_terminal:
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    _drawing.set(True)
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            said = description if callable(description) else lambda: description
            task = progress.add_task(said(), total=total)
            for item in items:
                progress.update(task, description=said())
                yield item
                del item  # before the next one is made
                progress.advance(task)
    finally:
        _drawing.set(False)


@contextmanager
def quiet() -> Iterator[None]:
    """No bars within: in workers, several of which write to one terminal."""
    before = _drawing.set(True)
    try:
        yield
    finally:
        _drawing.reset(before)


def with_residual(name: str, history: Sequence[float], target: float) -> Callable[[], str]:
    """Words that say the last residual of a history and where it is to go."""
    return lambda: f"{name}, residual {history[-1]:.1e} to {target:.0e}" if history else name


def watched(name: str) -> Callable[[Iterable[int], Sequence[float], float], Iterator[int]]:
    """What `upweight.linalg` takes as ``watch``: a bar with the last residual, where the loop has one."""
    return lambda steps, history, target: track(steps, with_residual(name, history, target))
