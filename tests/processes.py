"""Waiting for other processes, without a guess at how long they take."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest


def wait_for(true: Callable[[], bool]) -> None:
    """Until it is so; two minutes are far more than it takes."""
    for _ in range(1200):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("it never became so")


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not os.path.exists("/proc/self/stat")
