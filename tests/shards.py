"""Workers that fresh processes can import, and tasks that raise, die or wait; what happened is seen by files."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from processes import wait_for
from upweight.errors import InputError
from upweight.files import NotWrittenError


@dataclass(frozen=True)
class Shard:
    """A task: its number, and what is to happen at it."""

    number: int
    what: str = "work"
    """``work``; ``raise``, ``refuse``, ``unwritten``, ``leave``, ``odd``; ``die``, ``die once``; ``wait`` for a file
    ``go``."""


@dataclass(frozen=True)
class Square:
    """A result: the number squared, and by whom."""

    value: int
    worker: str
    process: int
    threads: int


def made(folder: Path) -> Callable[[Shard], Any]:
    """A worker that notes in a folder that it was made, what it begins and what it ends."""
    name = uuid.uuid4().hex
    note(folder, "made", f"{name}-{os.getpid()}")
    return partial(work, folder, name)


def unmade(kind: type[Exception]) -> Callable[[Shard], Any]:
    """No worker."""
    raise kind("no such worker")


def work(folder: Path, name: str, shard: Shard) -> Any:
    note(folder, "begun", f"{shard.number}-{uuid.uuid4().hex}")
    match shard.what:
        case "raise":
            raise ValueError("no such luck")
        case "refuse":
            raise InputError("data: give better ones")
        case "unwritten":
            raise NotWrittenError("a/file: can't be written")
        case "leave":
            raise SystemExit("no such luck")
        case "odd":
            return threading.Lock()
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once" if not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            wait_for((folder / "go").exists)
    note(folder, "ended", f"{shard.number}-{uuid.uuid4().hex}")
    return Square(shard.number**2, name, os.getpid(), torch.get_num_threads())


def note(folder: Path, what: str, name: str) -> None:
    (folder / what).mkdir(exist_ok=True)
    (folder / what / name).touch()


def noted(folder: Path, what: str) -> list[str]:
    """First words of the notes, such as the numbers of the tasks that have begun, sorted."""
    return sorted(path.name.partition("-")[0] for path in (folder / what).glob("*"))


def processes(folder: Path) -> list[int]:
    """Of all workers that were made."""
    return [int(path.name.rpartition("-")[2]) for path in (folder / "made").glob("*")]
