"""Jobs of Slurm, or of whatever else submitit knows; tasks and results are files of a folder that all of them see."""

from __future__ import annotations

import os
import secrets
import shutil
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upweight import files, scalars
from upweight.errors import InputError
from upweight.executors.bench import Bench, read, task_dumped
from upweight.executors.failures import Done, WorkerDiedError
from upweight.executors.interface import Result, Task
from upweight.executors.schedule import say_waiting
from upweight.optional import imported

NEVER = 60 * 24 * 365
"""Minutes after which a job on this machine is ended, where nothing else is said: submitit's own are two."""
LATE = 15.0
"""Seconds in which a file of another node's may come after the word that its job has ended."""
SOON, SELDOM = 0.05, 2.0
"""Seconds between looks, which grow while nothing happens."""


@dataclass(init=False)
class Slurm:
    """A job per worker, which does its share of the tasks; one that dies or comes to its time limit is submitted again.

    The tasks are drawn at once and dealt out in turn. What a job has done is kept as it goes, so that another one goes
    on behind it; a death counts for the task at which it came. Functions and classes of a script or a notebook go by
    value; what they import must be installed on every node.

    Parameters
    ----------
    workers
        How many jobs at a time.
    folder
        That all nodes see: tasks and results go through it while the work lasts, logs stay.
    cluster
        Of submitit: ``"slurm"``; ``"local"``, processes of this machine; ``"debug"``, this process itself. By default
        Slurm where there is one, else local.
    retries
        How many deaths of jobs a task survives.
    parameters
        As ``submitit.AutoExecutor.update_parameters`` takes them: ``timeout_min`` (submitit's default on Slurm is five
        minutes), ``cpus_per_task``, ``gpus_per_node``, ``mem_gb``, ``slurm_partition``.
    """

    workers: int
    folder: Path
    cluster: str | None
    retries: int
    parameters: dict[str, Any]

    def __init__(
        self,
        workers: int,
        *,
        folder: str | os.PathLike[str],
        cluster: str | None = None,
        retries: int = 2,
        **parameters: Any,
    ):
        self.workers = scalars.whole("workers", workers)
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise InputError(f"folder: give the name of a folder that all nodes see; got {scalars.shown(folder)}")
        self.folder = Path(folder).absolute()
        self.cluster = cluster if cluster is None else scalars.text("cluster", cluster)
        self.retries = scalars.whole("retries", retries, 0)
        self.parameters = parameters
        self._jobs()  # refuses what submitit doesn't know

    def run(
        self, tasks: Iterable[Task], make_worker: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Each task with its result, as they end; see `Executor.run`.

        Raises
        ------
        InputError
            Before work, if ``make_worker`` or a task can't be pickled.
        upweight.files.NotWrittenError
            If the folder can't be written to.
        """
        import cloudpickle

        try:
            made = cloudpickle.dumps(make_worker)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise InputError(
                f"make_worker: this can't be sent to a job ({told}); let it open and load what it needs itself"
            ) from error
        return self._run(tasks, made, cloudpickle.dumps)

    def _run(
        self, tasks: Iterable[Task], made: bytes, dumps: Callable[[Any], bytes]
    ) -> Generator[tuple[Task, Any], None, None]:
        import torch

        every = list(tasks)
        contents = [task_dumped(task, dumps) for task in every]
        if not every:
            return
        exchange = Exchange(self.folder / f"work-{secrets.token_hex(4)}")
        jobs = self._jobs()
        threads = max(torch.get_num_threads() // self.workers, 1) if jobs.cluster == "local" else None
        shift = _Shift(jobs, exchange, contents, threads)
        try:
            files.write(exchange.worker, made)
            shift.submit([range(len(every))[k :: self.workers] for k in range(min(self.workers, len(every)))])
            deaths: dict[int, int] = {}
            failure: Exception | None = None
            wait = SOON
            while shift.jobs:
                news = shift.news()
                for number in news:
                    answer = read(exchange.result(number).read_bytes())
                    if isinstance(answer, Done):
                        yield every[number], answer.result
                    else:
                        failure = failure or answer.error(every[number])
                        exchange.stop.touch()
                for number, told in shift.lost():
                    if failure is not None:
                        continue
                    deaths[number] = deaths.get(number, 0) + 1
                    if deaths[number] > self.retries:
                        failure = WorkerDiedError(every[number], deaths[number], told)
                        exchange.stop.touch()
                if failure is None:
                    shift.submit_again()
                wait = SOON if news else min(wait * 1.5, SELDOM)
                if shift.jobs and not shift.in_this_process:
                    time.sleep(wait)
            if failure is not None:
                raise failure
        finally:
            try:
                exchange.stop.touch()
                say_waiting(shift, "tasks")
                shift.close()
            except KeyboardInterrupt:
                shift.kill()
                raise
            finally:
                shutil.rmtree(exchange.folder, ignore_errors=True)

    def _jobs(self) -> Any:
        """Submitit's executor."""
        with imported("slurm", "executors.Slurm"):
            import submitit
        try:
            found = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
            here = {} if found.cluster == "slurm" else {"timeout_min": NEVER}
            found.update_parameters(**{**here, **self.parameters})
        except Exception as error:  # of whatever kind submitit refuses by
            given = f"cluster={self.cluster!r}, {self.parameters}"
            raise InputError(f"cluster, parameters: submitit refuses {given}: {error}") from error
        return found


@dataclass(frozen=True)
class Exchange:
    """The files through which a run and its jobs talk."""

    folder: Path

    @property
    def worker(self) -> Path:
        """What makes a worker, pickled."""
        return self.folder / "worker"

    @property
    def stop(self) -> Path:
        """There when no task is to be begun any more."""
        return self.folder / "stop"

    def result(self, number: int) -> Path:
        """A task's answer."""
        return self.folder / f"{number}.result"

    def begun(self, job: str) -> Path:
        """There when a job has started."""
        return self.folder / f"{job}.begun"

    def results(self) -> set[int]:
        """Numbers of the tasks that have been answered."""
        # Listing the folder, rather than asking for each, makes a network's file system look again.
        names = os.listdir(self.folder)
        return {int(name.removesuffix(".result")) for name in names if name[0].isdigit() and name.endswith(".result")}


def work(exchange: Exchange, name: str, share: Sequence[tuple[int, bytes]], threads: int | None) -> None:
    """A job: its share of the tasks in turn, each answer in its file, until one fails; none is done a second time."""
    import cloudpickle
    import torch

    exchange.begun(name).touch()
    if threads is not None:
        torch.set_num_threads(threads)
    bench = Bench(exchange.worker.read_bytes(), cloudpickle.dumps, passes=_is_of_submitit)
    for number, content in share:
        if exchange.stop.exists():
            return
        if exchange.result(number).exists():
            continue
        files.write(exchange.result(number), bench.attempt(content))
        if bench.failed:
            return


def _is_of_submitit(error: BaseException) -> bool:
    """Whether the job's time is over, or it makes way for another: submitit raises, on a signal, wherever a task is."""
    innermost = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        innermost = frame
    return innermost is not None and str(innermost.f_globals.get("__name__")).startswith("submitit.")


@dataclass
class _Job:
    name: str
    job: Any
    left: list[int]
    """Tasks whose answers haven't been seen, in their order."""
    ended: float | None = None
    """When it was first seen to have."""


@dataclass
class _Shift:
    """The jobs of a run."""

    executor: Any
    exchange: Exchange
    contents: list[bytes]
    threads: int | None
    jobs: list[_Job] = field(default_factory=list)
    again: list[list[int]] = field(default_factory=list)
    """What jobs left that are no more."""
    count: int = 0

    @property
    def in_this_process(self) -> bool:
        """Whether a job is done when one asks whether it is."""
        return bool(self.executor.cluster == "debug")

    def submit(self, shares: Sequence[Sequence[int]]) -> None:
        """A job for each."""
        names = [f"job-{self.count + k}" for k in range(len(shares))]
        self.count += len(shares)
        contents = [[(number, self.contents[number]) for number in share] for share in shares]
        with self.executor.batch():
            jobs = [
                self.executor.submit(work, self.exchange, name, content, self.threads)
                for name, content in zip(names, contents, strict=True)
            ]
        self.jobs += [_Job(*each) for each in zip(names, jobs, map(list, shares), strict=True)]

    def submit_again(self) -> None:
        """A job for what each of the lost ones left."""
        if self.again:
            self.submit(self.again)
            self.again = []

    def news(self) -> list[int]:
        """Numbers of tasks that have been answered since."""
        found = self.exchange.results()
        new = []
        for each in self.jobs:
            new += [number for number in each.left if number in found]
            each.left = [number for number in each.left if number not in found]
        return new

    def lost(self) -> list[tuple[int, str]]:
        """Forget the jobs that have ended; of each that left something, the task it was at, and what is known of it."""
        told = []
        for each in self.jobs[:1] if self.in_this_process else list(self.jobs):
            if not each.job.done():
                continue
            each.ended = each.ended or time.monotonic()
            late = self.executor.cluster == "slurm" and time.monotonic() < each.ended + LATE
            if each.left and (late or self.exchange.results().intersection(each.left)):  # news first
                continue
            self.jobs.remove(each)
            if each.left:
                told.append(
                    (each.left[0], f"job {each.job.job_id}, {each.job.state}; its log: {each.job.paths.stderr}")
                )
                self.again.append(each.left)
        return told

    def working(self) -> int:
        """How many have begun and not ended."""
        return 0 if self.in_this_process else sum(self._has_begun(each) for each in self.jobs)

    def close(self) -> None:
        """Cancel those that haven't begun, wait for the others; all have been told to stop."""
        if self.in_this_process:
            return
        for each in self.jobs:
            if not self._has_begun(each):
                each.job.cancel(check=False)
        while not all(each.job.done(force_check=True) for each in self.jobs):
            time.sleep(SELDOM if self.executor.cluster == "slurm" else SOON)

    def kill(self) -> None:
        """Cancel all."""
        for each in self.jobs:
            each.job.cancel(check=False)

    def _has_begun(self, each: _Job) -> bool:
        return self.exchange.begun(each.name).exists()
