"""A worker's side of every executor that has others than this process: tasks and answers are bytes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from upweight.errors import InputError
from upweight.executors.failures import Answer, Done, Failure, named
from upweight.progress import quiet

Dumps = Callable[[Any], bytes]
"""How something is pickled; ``pickle.loads`` reads it."""


class Bench:
    """Where a worker is made at its first task, and answers one after the other.

    ``made`` makes the worker, or is this pickled; an exception that ``passes`` is no answer of the task, but the
    worker's own end.
    """

    def __init__(
        self,
        made: bytes | Callable[[], Callable[[Any], Any]],
        dumps: Dumps,
        passes: Callable[[BaseException], bool] = lambda error: False,
    ):
        self._made: bytes | Callable[[], Callable[[Any], Any]] | None = made
        self._dumps = dumps
        self._passes = passes
        self._worker: Callable[[Any], Any] | None = None
        self.failed = False
        """Whether the last answer is a failure."""

    def attempt(self, content: bytes) -> bytes:
        """A pickled task's result or failure, pickled."""
        try:
            with quiet():
                answer = self._dumps(Done(self._worked(content)))
        except (Exception, SystemExit) as error:
            if self._passes(error):
                raise
            self.failed = True
            return pickle.dumps(Failure.of(error))
        self.failed = False
        return answer

    def _worked(self, content: bytes) -> Any:
        if self._worker is None:
            assert self._made is not None
            made = pickle.loads(self._made) if isinstance(self._made, bytes) else self._made
            self._worker = made()
            self._made = None
        return self._worker(pickle.loads(content))


def read(content: bytes) -> Answer:
    """An answer of `Bench.attempt`; what can't be read here is a failure."""
    try:
        answer: Answer = pickle.loads(content)
    except Exception as error:  # of whatever class the result is
        return Failure.of(error)
    return answer


def task_dumped(task: Any, dumps: Dumps) -> bytes:
    """A task as bytes.

    Raises
    ------
    InputError
        If it can't be pickled.
    """
    try:
        return dumps(task)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise InputError(
            f"tasks: {named(task)} can't be sent to a worker ({told}); give plain data: numbers, text, arrays"
        ) from error
