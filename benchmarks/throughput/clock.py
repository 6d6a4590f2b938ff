"""Seconds by stage, and the operations of each where they are counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Seconds of each stage, each waited for; what happens in an inner stage isn't counted in the outer one.

    Attributes
    ----------
    stages
        Seconds by stage.
    waits
        Of them seconds that the host only waited for the device at a stage's end: near 0 it was the host that was late.
    known
        Further figures that a system gives.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.stages: dict[str, float] = {}
        self.waits: dict[str, float] = {}
        self.known: dict[str, float] = {}
        self._inner: list[float] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts what happens within."""
        self._wait()
        self._inner.append(0.0)
        start = time.perf_counter()
        yield
        handed = time.perf_counter()
        self._wait()
        end = time.perf_counter()
        self.stages[name] = self.stages.get(name, 0.0) + end - start - self._inner.pop()
        self.waits[name] = self.waits.get(name, 0.0) + end - handed
        if self._inner:
            self._inner[-1] += end - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
