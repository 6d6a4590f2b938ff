"""Actors of a Ray cluster, or of a local Ray that lasts as long as the work."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from upweight import scalars
from upweight.errors import InputError
from upweight.executors.bench import Bench
from upweight.executors.failures import Failure
from upweight.executors.interface import Result, Task
from upweight.executors.schedule import Died, Event, Ready, scheduled
from upweight.optional import imported

LOCAL = "local"
"""Ray's name for one that is started on this machine."""
LOOK = 5.0
"""Seconds of one wait for actors."""


@dataclass(init=False)
class Ray:
    """An actor per worker, anywhere on a cluster; one that dies, alone or with its node, is replaced.

    Room is not waited for: as long as there is one worker, it does the others' tasks. Functions and classes of a script
    or a notebook go by value; what they import must be installed on every node.

    Parameters
    ----------
    workers
        How many; by default as many as the cluster has room for when this is made.
    address
        Of a cluster, as ``ray.init`` takes it. None is the Ray that this process has already connected to, which is
        left as it is; else the cluster of the variable ``RAY_ADDRESS``; else one of this machine alone, started for the
        work and shut down after it.
    num_cpus
        Of each worker, which is as many threads of torch (at least one).
    num_gpus
        Of each worker; fractions share one.
    retries
        How many deaths of workers a task survives.
    """

    workers: int
    address: str | None
    num_cpus: float
    num_gpus: float
    retries: int

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
        retries: int = 2,
    ):
        with imported("ray", "executors.Ray"):
            import ray  # noqa: F401
        self.address = address if address is None else scalars.text("address", address)
        self.num_cpus = scalars.number("num_cpus", num_cpus, least=0)
        self.num_gpus = scalars.number("num_gpus", num_gpus, least=0)
        self.retries = scalars.whole("retries", retries, 0)
        self.workers = self._room() if workers is None else scalars.whole("workers", workers)

    def run(
        self, tasks: Iterable[Task], make_worker: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Each task with its result, as they end; see `Executor.run`.

        Raises
        ------
        InputError
            Before work, if ``make_worker`` can't be pickled; of a task, when it is drawn.
        """
        from ray import cloudpickle

        try:
            made = cloudpickle.dumps(make_worker)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise InputError(
                f"make_worker: this can't be sent to a cluster ({told}); let it open and load what it needs itself"
            ) from error
        return self._run(tasks, made)

    def _run(self, tasks: Iterable[Task], made: bytes) -> Generator[tuple[Task, Any], None, None]:
        import ray
        from ray import cloudpickle

        with self._connected():
            crew = _Crew(ray.put(made), self.num_cpus, self.num_gpus)
            yield from scheduled(tasks, crew, cloudpickle.dumps, workers=self.workers, retries=self.retries)

    def _room(self) -> int:
        """How many workers there is room for."""
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        if not any(wanted.values()):
            raise InputError("workers: give a number, where a worker needs neither CPU nor GPU")
        there = self._resources()
        room = min(int(there.get(kind, 0) / each) for kind, each in wanted.items() if each)
        if not room:
            raise InputError(
                f"num_cpus, num_gpus: a worker needs {wanted}; the cluster has {there.get('CPU', 0):g} CPUs and "
                f"{there.get('GPU', 0):g} GPUs. Give less, or workers= where it grows"
            )
        return room

    def _resources(self) -> Mapping[str, float]:
        import ray
        import torch

        if not ray.is_initialized() and self._place() == LOCAL:  # counted rather than started
            return {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
        with self._connected():
            return ray.cluster_resources()

    def _place(self) -> str:
        return self.address or os.environ.get("RAY_ADDRESS") or LOCAL

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Within, this process is connected to Ray; after it as before."""
        import ray

        if ray.is_initialized():
            yield
            return
        place = self._place()
        with _own_signals(), _unreported():
            ray.init(place, include_dashboard=False if place == LOCAL else None, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """What SIGTERM does in this process stays: Ray would take it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _unreported() -> Iterator[None]:
    """A Ray that is started within reports nothing of its use, unless its user has chosen."""
    name = "RAY_USAGE_STATS_ENABLED"
    chosen = name in os.environ
    os.environ.setdefault(name, "0")
    try:
        yield
    finally:
        if not chosen:
            del os.environ[name]


class _Actor(Bench):
    """A worker on the cluster."""

    def __init__(self, made: bytes, threads: int):
        import torch
        from ray import cloudpickle

        torch.set_num_threads(threads)
        super().__init__(bytes(made), cloudpickle.dumps)

    def ready(self) -> None:
        """Answered when the actor has started."""


@dataclass
class _Seat:
    actor: Any
    awaited: Any
    """The reference of what it is to tell, None where that is nothing."""
    works: bool = False


class _Crew:
    """Actors by seat; see `schedule.Crew`. What an actor was doing when it died is never repeated by Ray itself."""

    def __init__(self, made: Any, num_cpus: float, num_gpus: float):
        import ray

        self._made = made
        self._threads = max(int(num_cpus), 1)
        once = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0, max_task_retries=0)
        self._kind: Any = once(_Actor)
        self._seats: dict[int, _Seat] = {}

    def start(self, seat: int) -> None:
        actor = self._kind.remote(self._made, self._threads)
        self._seats[seat] = _Seat(actor, actor.ready.remote())

    def give(self, seat: int, content: bytes) -> None:
        at = self._seats[seat]
        at.awaited, at.works = at.actor.attempt.remote(content), True

    def events(self) -> list[tuple[int, Event]]:
        import ray

        awaited = {at.awaited: seat for seat, at in self._seats.items() if at.awaited is not None}
        told, rest = ray.wait(list(awaited), num_returns=1, timeout=LOOK)
        if told and rest:
            told += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [(awaited[each], self._read(awaited[each])) for each in told]

    def working(self) -> int:
        return sum(at.works for at in self._seats.values())

    def close(self) -> None:
        for seat, at in list(self._seats.items()):
            if not at.works:
                self._end(seat)
        while self.working():
            for seat, event in self.events():
                if not isinstance(event, Died):
                    self._end(seat)

    def kill(self) -> None:
        for seat in list(self._seats):
            self._end(seat)

    def _read(self, seat: int) -> Event:
        import ray
        from ray.exceptions import RayError, RayTaskError

        at = self._seats[seat]
        try:
            content = ray.get(at.awaited)
        except RayTaskError as error:  # of the actor's own doing, such as an answer that doesn't fit its memory
            content = pickle.dumps(Failure.of(error))
        except RayError as error:
            self._end(seat)
            return Died(f"{type(error).__name__}: {error}")
        started = at.works
        at.awaited, at.works = None, False
        return content if started else Ready()

    def _end(self, seat: int) -> None:
        import ray

        at = self._seats.pop(seat)
        with suppress(Exception):  # one that is no more
            ray.kill(at.actor, no_restart=True)
