"""Seconds and memory of a piece of work, and its limit; the standard library only: every environment imports it."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STATM = Path("/proc/self/statm")
MIB = 2**20


def resident() -> int:
    """Bytes of this process in memory now (Linux; elsewhere 0)."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else 0


class Growth:
    """Growth of the process's memory over a ``with`` block, sampled every two milliseconds: ``.mib``."""

    def __enter__(self) -> Growth:
        self._start = self._peak = resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._peak = max(self._peak, resident())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._peak = max(self._peak, resident())

    @property
    def mib(self) -> float:
        """Peak above the start, in MiB."""
        return (self._peak - self._start) / MIB


def seconds(work: Callable[[], object], repeats: int = 3, *, warm: bool = False) -> float:
    """Median seconds of the work, after one run more unless it is ``warm`` already."""
    if not warm:
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@contextmanager
def limited(most: float) -> Iterator[None]:
    """Raises `TimeoutError` within the block once so many seconds are over."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not finished in {most:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
