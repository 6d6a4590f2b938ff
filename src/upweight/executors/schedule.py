"""The coordinator's loop over workers of any kind: hands out tasks, again where a worker died, and only counts."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from upweight.executors.bench import Dumps, read, task_dumped
from upweight.executors.failures import Done, WorkerDiedError
from upweight.executors.interface import Task


@dataclass(frozen=True)
class Ready:
    """A worker has started, and takes a task."""


@dataclass(frozen=True)
class Died:
    """A worker is no more; ``told`` is what is known of it."""

    told: str = ""


Event = Ready | Died | bytes
"""What a worker tells; bytes are its answer to the task that it was given."""


class HasWork(Protocol):
    """Workers that can be at work."""

    def working(self) -> int:
        """How many have a task that they haven't answered."""
        ...


class Crew(HasWork, Protocol):
    """Workers of one kind, each at a seat with a number."""

    def start(self, seat: int) -> None:
        """Begin to start a worker at a seat that has none; `Ready` or `Died` comes of it."""
        ...

    def give(self, seat: int, content: bytes) -> None:
        """Give a pickled task to a worker that has none; its answer or `Died` comes of it."""
        ...

    def events(self) -> list[tuple[int, Event]]:
        """Wait until workers that start or work have something to tell: by seat, one or more, or none after a while."""
        ...

    def close(self) -> None:
        """End all, each when it has answered what it was given."""
        ...

    def kill(self) -> None:
        """End all at once."""
        ...


@dataclass
class _Given(Generic[Task]):
    """A task on its way."""

    task: Task
    content: bytes
    deaths: int = 0


class _Waiting(Generic[Task]):
    """Tasks that have not begun: drawn when they are asked for, or come back from a worker that died."""

    def __init__(self, tasks: Iterable[Task], dumps: Dumps):
        self._source: Iterator[Task] | None = iter(tasks)
        self._dumps = dumps
        self._held: deque[_Given[Task]] = deque()
        self.error: Exception | None = None
        """What drawing raised; none come after it."""

    def holds(self, number: int) -> bool:
        """Whether there are so many."""
        while self._source is not None and len(self._held) < number:
            try:
                task = next(self._source)
                self._held.append(_Given(task, task_dumped(task, self._dumps)))
            except StopIteration:
                self._source = None
            except Exception as error:
                self._source, self.error = None, error
        return len(self._held) >= number

    def take(self) -> _Given[Task]:
        return self._held.popleft()

    def give_back(self, given: _Given[Task]) -> None:
        self._held.appendleft(given)


class _Shift(Generic[Task]):
    """Who of a crew starts, waits and works, and at what."""

    def __init__(self, waiting: _Waiting[Task], crew: Crew, workers: int, retries: int):
        self._waiting, self._crew, self._workers, self._retries = waiting, crew, workers, retries
        self._starting: set[int] = set()
        self._idle: set[int] = set()
        self._at: dict[int, _Given[Task]] = {}
        self._stillborn: dict[int, int] = {}
        self.failure: Exception | None = None
        """The first; nothing is begun after it."""

    def hand_out(self) -> bool:
        """Give tasks to whoever has none, start workers for what is left; whether there is anything to wait for."""
        while self.failure is None and self._idle and self._waiting.holds(1):
            seat = self._idle.pop()
            self._at[seat] = self._waiting.take()
            self._crew.give(seat, self._at[seat].content)
        vacant = set(range(self._workers)) - self._starting - self._idle - self._at.keys()
        while self.failure is None and vacant and self._waiting.holds(len(self._starting) + 1):
            self._starting.add(min(vacant))
            self._crew.start(min(vacant))
            vacant.remove(min(vacant))
        return bool(self._at) or (self.failure is None and self._waiting.holds(1))

    def take_in(self, seat: int, event: Event) -> Iterator[tuple[Task, Any]]:
        """The pair that an event brought, if it did."""
        if isinstance(event, Ready):
            self._starting.discard(seat)
            self._stillborn.pop(seat, None)
            self._idle.add(seat)
        elif isinstance(event, Died):
            self._died(seat, event)
        else:
            given = self._at.pop(seat)
            self._idle.add(seat)
            answer = read(event)
            if isinstance(answer, Done):
                yield given.task, answer.result
            else:
                self._failed(answer.error(given.task))

    def _died(self, seat: int, event: Died) -> None:
        if seat in self._at:
            given = self._at.pop(seat)
            given.deaths += 1
            if given.deaths > self._retries:
                self._failed(WorkerDiedError(given.task, given.deaths, event.told))
            else:
                self._waiting.give_back(given)
            return
        self._starting.discard(seat)
        deaths = self._stillborn[seat] = self._stillborn.get(seat, 0) + 1
        if deaths > self._retries and self._waiting.holds(1):
            told = event.told or "it had not yet begun"
            self._failed(WorkerDiedError(self._waiting.take().task, deaths, told))

    def _failed(self, error: Exception) -> None:
        self.failure = self.failure or error


def scheduled(
    tasks: Iterable[Task], crew: Crew, dumps: Dumps, *, workers: int, retries: int, called: str = "tasks"
) -> Generator[tuple[Task, Any], None, None]:
    """Tasks with their results as they end, by the workers of a crew; `interface.Executor.run` says what is raised.

    ``called``: what tasks are, where it is said that they are waited for.
    """
    waiting = _Waiting(tasks, dumps)
    shift = _Shift(waiting, crew, workers, retries)
    try:
        while shift.hand_out():
            pairs = [pair for seat, event in crew.events() for pair in shift.take_in(seat, event)]
            shift.hand_out()  # before the caller takes its time
            yield from pairs
        error = shift.failure or waiting.error
        if error is not None:
            raise error
    finally:
        try:
            say_waiting(crew, called)
            crew.close()
        except KeyboardInterrupt:  # a second one, from when the first has been said
            crew.kill()
            raise


def say_waiting(crew: HasWork, called: str) -> None:
    """Tell, while an interrupt is on its way, why it takes a while."""
    working = crew.working() if isinstance(sys.exception(), KeyboardInterrupt | GeneratorExit) else 0
    if working:
        words = f"waiting for {working} {called} that have begun (Ctrl-C again ends them)"
        print(f"upweight: interrupted; {words}", file=sys.stderr, flush=True)
