"""What every executor promises: tasks go to workers as these come free, and pairs come back as they end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar, runtime_checkable

Task = TypeVar("Task")
Result = TypeVar("Result")


@runtime_checkable
class Executor(Protocol):
    """Runs tasks in workers, in the form of ``concurrent.futures``; knows nothing of what they do.

    A task is done again where its worker died, so it should give the same result twice, and commit what it keeps whole
    or not at all.
    """

    @property
    def workers(self) -> int:
        """How many tasks run at a time."""
        ...

    def run(
        self, tasks: Iterable[Task], make_worker: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Do every task, and yield it with its result as it ends, in any order.

        Parameters
        ----------
        tasks
            Drawn as workers come free: no more have begun than have ended and there are workers.
        make_worker
            Called once in each worker, before its first task; what it returns is called with each task.

        Raises
        ------
        TaskFailedError
            If a task raised, or a worker could not be made. Tasks that have begun are finished and yielded first, no
            others are begun. So it is with every error below, and with what ``tasks`` itself raises.
        InputError, NotWrittenError
            If a task raised one of these: with its own words, caused by a `TaskFailedError` that names the task.
        WorkerDiedError
            If workers died at the same task more often than the executor retries.
        InputError
            If ``make_worker`` or a task can't be sent to a worker.

        Where the generator is closed, or interrupted by Ctrl-C, tasks that have begun are finished and no others begun;
        a second Ctrl-C ends those too.
        """
        ...
