"""A device without memory left: how its errors are told, and smaller passes where one comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from upweight.engine.engine import Engine
from upweight.errors import SmallerPassesWarning, warn
from upweight.executors import TaskFailedError, WorkerDiedError

T = TypeVar("T")

WORDS = ("can't allocate memory", "not enough memory", "out of memory")
"""Of torch's allocators, which raise a RuntimeError where it isn't `torch.OutOfMemoryError`."""


def is_out_of_memory(error: BaseException) -> bool:
    """By its class, or by its words; not what executors say of a worker, whose memory is not this process's."""
    if isinstance(error, TaskFailedError | WorkerDiedError):
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def within_memory(engine: Engine, work: Callable[[], T]) -> T:
    """What ``work`` gives; where the device's memory is too small for it, passes become smaller, and it begins again.

    Raises
    ------
    InputError
        If a pass of one example doesn't fit.

    Warns
    -----
    SmallerPassesWarning
        Once, with the size that was found.
    """
    before = None
    while True:
        try:
            found = work()
            break
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        before = before or engine.memory
        engine.halve()  # here, where nothing holds what the failed pass had made
    if before is not None:
        warn(
            f"memory: the device couldn't hold passes of {before:,} bytes; they are of {engine.memory:,} now, "
            "which changes no result by more than rounding",
            SmallerPassesWarning,
        )
    return found
