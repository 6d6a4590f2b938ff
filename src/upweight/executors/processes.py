"""Worker processes of this machine, one pipe to each."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from upweight import scalars
from upweight.errors import InputError
from upweight.executors.bench import Bench
from upweight.executors.interface import Result, Task
from upweight.executors.schedule import Died, Event, Ready, scheduled

READY, NO_MORE = b"", b""
"""What a worker says when it has started, and what it is told at its end."""
LOOK = 2.0
"""Seconds after which it is looked whether workers live: children of a dead one hold its pipe open."""
LEAVE = 20.0
"""Seconds in which a worker without a task has to end by itself."""


@dataclass(frozen=True)
class Processes:
    """Local worker processes; one that dies is replaced, and the others go on.

    Parameters
    ----------
    workers
        How many.
    threads
        Threads of torch in each; by default those that torch may use here, divided among the workers (one, in a forked
        process, which can't use the threads that its parent's OpenMP has started).
    retries
        How many deaths of workers a task survives.
    start
        ``"spawn"``: fresh processes, which import what they run (a script then needs ``if __name__ == "__main__":``).
        ``"fork"``: copies of this one, which take closures and functions of a notebook too; not on every system, nor
        after CUDA has been used.
    called
        What the tasks are, in the plural, where it is said that they are waited for.
    """

    workers: int
    _: KW_ONLY
    threads: int | None = None
    retries: int = 2
    start: str = "spawn"
    called: str = "tasks"

    def __post_init__(self) -> None:
        scalars.whole("workers", self.workers)
        if self.threads is not None:
            scalars.whole("threads", self.threads)
        scalars.whole("retries", self.retries, 0)
        scalars.one_of("start", self.start, ("spawn", "fork"))
        scalars.text("called", self.called)
        if self.start == "fork" and not can_fork():
            raise InputError("start: processes can't be forked here; give 'spawn'")

    def run(
        self, tasks: Iterable[Task], make_worker: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Each task with its result, as they end; see `Executor.run`.

        Raises
        ------
        InputError
            Before work, if ``make_worker`` can't be sent to fresh processes; of a task, when it is drawn.
        """
        import torch

        forked = self.start == "fork"
        made = make_worker if forked else _sent(make_worker)
        threads = self.threads or (1 if forked else max(torch.get_num_threads() // self.workers, 1))
        crew = _Crew(multiprocessing.get_context(self.start), made, threads)
        return scheduled(tasks, crew, pickle.dumps, workers=self.workers, retries=self.retries, called=self.called)


def can_be_sent(value: Any) -> bool:
    """Whether a fresh process would have this object."""
    with suppress(InputError):
        return bool(_sent(value))
    return False


def can_fork() -> bool:
    """Whether this process can be copied."""
    import torch

    return "fork" in multiprocessing.get_all_start_methods() and not torch.cuda.is_initialized()


def _sent(value: Any) -> bytes:
    """An object as a fresh process reads it.

    Raises
    ------
    InputError
        If it can't be pickled, or is of a main module that a fresh process can't import.
    """
    told = "it is of a session's or a notebook's own code"
    try:
        content = pickle.dumps(value)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    else:
        main = sys.modules["__main__"]
        file = getattr(main, "__file__", None)
        # A fresh process imports the main module again, if that says where it is.
        found = getattr(main, "__spec__", None) is not None or (file is not None and os.path.exists(file))
        if found or (file is None and b"__main__" not in content):
            return content
    mend = "define it at the top level of a module, with its data by functools.partial"
    mend += ", or give start='fork'" if can_fork() else ", or take executors.InProcess()"
    raise InputError(f"make_worker: this can't be sent to fresh processes ({told}); {mend}")


@dataclass
class _Seat:
    process: BaseProcess
    pipe: Connection
    state: str = "starting"
    """``starting``, ``idle`` or ``working``."""
    equipped: bool = False
    """Whether it has been sent what makes its worker."""


class _Crew:
    """Processes by seat; see `schedule.Crew`."""

    def __init__(self, context: BaseContext, made: bytes | Callable[[], Any], threads: int):
        self._context, self._made, self._threads = context, made, threads
        self._seats: dict[int, _Seat] = {}

    def start(self, seat: int) -> None:
        if not self._seats:
            atexit.register(self.close)  # before processes are joined, which would wait for a task for ever
        ours, theirs = self._context.Pipe()
        forked = not isinstance(self._made, bytes)
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_work, args=(theirs, self._made if forked else None, self._threads), name=f"upweight worker {seat}"
        )
        process.start()
        theirs.close()
        self._seats[seat] = _Seat(process, ours, equipped=forked)

    def give(self, seat: int, content: bytes) -> None:
        at = self._seats[seat]
        at.state = "working"
        with suppress(OSError):  # it died meanwhile, which its pipe says too
            if not at.equipped:  # by the pipe, which copies nothing: it may hold all training data
                at.pipe.send_bytes(self._made)  # type: ignore[arg-type]
                at.equipped = True
            at.pipe.send_bytes(content)

    def events(self) -> list[tuple[int, Event]]:
        awaited: dict[Any, int] = {at.pipe: seat for seat, at in self._seats.items() if at.state != "idle"}
        readable = [awaited[pipe] for pipe in connection.wait(list(awaited), LOOK)]
        if readable:
            return [(seat, self._read(seat)) for seat in readable]
        return [(seat, self._lost(seat)) for seat in awaited.values() if self._is_gone(seat)]

    def working(self) -> int:
        return sum(at.state == "working" for at in self._seats.values())

    def close(self) -> None:
        for seat, at in list(self._seats.items()):
            if at.state == "starting":
                at.process.kill()
                self._lost(seat)
            elif at.state == "idle":
                self._say_no_more(at)
        while self.working():
            for seat, event in self.events():
                if not isinstance(event, Died):
                    self._say_no_more(self._seats[seat])
        for seat in list(self._seats):
            self._lost(seat)
        atexit.unregister(self.close)

    def kill(self) -> None:
        for at in self._seats.values():
            at.process.kill()
        for seat in list(self._seats):
            self._lost(seat)
        atexit.unregister(self.close)

    def _read(self, seat: int) -> Event:
        at = self._seats[seat]
        try:
            content = at.pipe.recv_bytes()
        except (EOFError, OSError):
            return self._lost(seat)
        started = at.state == "starting"
        at.state = "idle"
        return Ready() if started else content

    def _is_gone(self, seat: int) -> bool:
        at = self._seats[seat]
        return not at.process.is_alive() and not at.pipe.poll()

    def _lost(self, seat: int) -> Died:
        at = self._seats.pop(seat)
        at.process.join(LEAVE)
        at.process.kill()
        at.process.join()
        at.pipe.close()
        code = at.process.exitcode
        at.process.close()
        if code is not None and code < 0:
            with suppress(ValueError):
                return Died(f"it was ended by {signal.Signals(-code).name}")
        return Died(f"it ended with exit code {code}")

    def _say_no_more(self, at: _Seat) -> None:
        with suppress(OSError):  # it died meanwhile
            at.pipe.send_bytes(NO_MORE)


def _work(pipe: Connection, made: Callable[[], Any] | None, threads: int) -> None:
    """A worker process, from its start to its end; ``made``, if it is None, comes before the first task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; what follows is for the parent to say
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # of a parent that is no more
        pipe.send_bytes(READY)
        maker = pipe.recv_bytes() if made is None else made
        if maker == NO_MORE:
            return
        bench = Bench(maker, pickle.dumps)
        del maker
        while content := pipe.recv_bytes():
            pipe.send_bytes(bench.attempt(content))


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
