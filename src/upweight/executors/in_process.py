"""Tasks one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

from upweight.executors.failures import Failure
from upweight.executors.interface import Result, Task


@dataclass(frozen=True)
class InProcess:
    """One worker, which is this process: nothing is pickled, Ctrl-C ends its task, and a death is everybody's."""

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def run(
        self, tasks: Iterable[Task], make_worker: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Each task with its result, in their order; see `Executor.run`.

        Raises
        ------
        TaskFailedError
            If a task raised; what it raised is the cause.
        InputError, NotWrittenError
            If a task raised one of these.
        """
        worker: Callable[[Task], Result] | None = None
        for task in tasks:
            try:
                worker = make_worker() if worker is None else worker
                result = worker(task)
            except (Exception, SystemExit) as raised:
                error = Failure.of(raised, f"{type(raised).__name__}: {raised}").error(task, raised)
                raise error from error.__cause__
            yield task, result
