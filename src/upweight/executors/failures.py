"""What can go wrong with a task, on its way from a worker to the caller."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from upweight.errors import InputError
from upweight.files import NotWrittenError

LONGEST = 200
"""Letters of a task's name in a message."""


class TaskFailedError(RuntimeError):
    """A task raised; the message names it (`task`) and what was told of it in its worker (`told`)."""

    def __init__(self, task: Any, told: str):
        super().__init__(task, told)
        self.task = task
        self.told = told

    def __str__(self) -> str:
        return f"{named(self.task)} failed: {self.told}"


class WorkerDiedError(RuntimeError):
    """Workers died at a task; the message names it (`task`), how often (`deaths`), and what is known of it (`told`)."""

    def __init__(self, task: Any, deaths: int, told: str = ""):
        super().__init__(task, deaths, told)
        self.task = task
        self.deaths = deaths
        self.told = told

    def __str__(self) -> str:
        often = "" if self.deaths == 1 else f", {self.deaths} times"
        more = f": {self.told}" if self.told else ""
        return f"{named(self.task)}: its worker died (killed, or out of memory){often}{more}"


@dataclass(frozen=True)
class Done:
    """What a task gave."""

    result: Any


@dataclass(frozen=True)
class Failure:
    """What a task raised, as text: an exception of any class may not survive the way back."""

    told: str
    kept: type[InputError] | type[NotWrittenError] | None = None
    words: str = ""

    @classmethod
    def of(cls, error: BaseException, told: str | None = None) -> Failure:
        """An exception that is being handled; ``told`` by default its traceback."""
        kept = next((kind for kind in (InputError, NotWrittenError) if isinstance(error, kind)), None)
        return cls(traceback.format_exc() if told is None else told, kept, str(error))

    def error(self, task: Any, cause: BaseException | None = None) -> Exception:
        """What is to be raised for it: our own refusals in their own words."""
        failed = TaskFailedError(task, self.told)
        failed.__cause__ = cause
        if self.kept is None:
            return failed
        error = self.kept(self.words)
        error.__cause__ = failed
        return error


Answer = Done | Failure


def named(task: Any) -> str:
    """A task in a message."""
    text = str(task)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return f"task {text}" if isinstance(task, int | float) else text
