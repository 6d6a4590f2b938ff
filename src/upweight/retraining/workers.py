"""Any training function, many times over, in worker processes; what is finished survives a kill."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.context import BaseContext
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from upweight import kinds, scalars
from upweight.errors import InputError
from upweight.files import NotWrittenError
from upweight.kept import copied
from upweight.progress import track
from upweight.retraining.finished import Form, Job, State, kept_by, pack, say_what_is_left, unpack
from upweight.retraining.trained import Trained, checked_jobs, pairs_of, warn_if_diverged
from upweight.store.kept_work import Folder

Train = Callable[[Int[Tensor, " size"], int], Any]
"""(positions of the training examples, seed) -> the trained module, or its θ [p]."""


class TrainingFailedError(RuntimeError):
    """A training function raised, or its process died; the message names the subset, the seed and the cause."""


def train_many(
    train: Train,
    jobs: Iterable[tuple[Any, int]],
    *,
    model: nn.Module,
    workers: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Trained:
    """Train a model per job by the user's own function, several at a time.

    Parameters
    ----------
    train
        ``train(indices, seed)`` gets positions of training examples, ``[size]``, and returns the trained
        ``nn.Module`` or its parameters as one vector ``[p]``. The seed alone should decide what is random.
    jobs
        Pairs of positions and seed, one per model. Equal pairs are trained once.
    model
        The architecture: a module of the kind that ``train`` returns, with any parameters.
    workers
        Processes; 0 trains in this one. They share the threads that torch may use here. A function that can be
        imported goes to fresh processes (a script then needs ``if __name__ == "__main__":``); others, such as
        closures and functions of a notebook, need a system that can fork.
    folder
        Where finished models are kept and, on the next call, read back instead of trained. They belong to ``train``
        by its code and the values that it uses (`retraining.fingerprint`): a changed function trains anew, and a
        warning says how many models of another one are left there. Data that it reads from files don't count: give
        another folder when these change. A function that uses something whose content can't be told (an open file) is
        named by a warning, and none is kept or read. A damaged file is named by a warning and its model trained again.

    Returns
    -------
    The models in the order of the jobs.

    Raises
    ------
    TrainingFailedError
        If ``train`` raises (or calls ``sys.exit``), returns no such model, or its process dies. Jobs that have begun
        are finished and kept, no others are begun. So it is after Ctrl-C; a second one ends those that run.
    InputError
        If an argument is impossible, or a file in the folder is not the state of such a model.
    upweight.files.NotWrittenError
        If the folder can't be written to.
    """
    kinds.check(train_many, locals())
    started = time.perf_counter()
    scalars.whole("workers", workers, 0)
    if not callable(train):
        raise InputError(f"train: a function (indices, seed) -> trained model; got {train!r}")
    subsets, seeds = checked_jobs(*pairs_of(jobs), name="jobs")
    form = Form.of(model)
    place, name = kept_by(train, Folder.given(folder))
    run = _Run(train, form, place)
    every = [
        Job(number, subset.numpy(), seed, name)
        for number, (subset, seed) in enumerate(zip(subsets, seeds, strict=True))
    ]
    states = {job.key: state for job in every if (state := run.known(job)) is not None}
    pending = list({job.key: job for job in every if job.key not in states}.values())
    if run.folder is not None and pending:
        run.folder.check()
        say_what_is_left(run.folder, name)
    words = f"training {len(pending)} models" + (f" ({len(states)} are in {folder})" if states else "")
    done = _in_processes(run, pending, min(workers, len(pending))) if workers else _here(run, pending)
    states.update(track(done, words, len(pending)))
    found = [states[job.key] for job in every]
    params = torch.stack([state.params for state in found])
    warn_if_diverged(params, seeds)
    constants = {name: torch.stack([state.constants[name] for state in found]) for name in run.form.constants}
    return Trained(
        params,
        constants,
        run.form.layout,
        subsets,
        seeds,
        copied(model).eval(),
        time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Run:
    """What every job of a call shares; it goes to the worker processes."""

    train: Train
    form: Form
    folder: Folder | None

    def known(self, job: Job) -> State | None:
        """The finished model of a job, if it is in the folder."""
        content = None if self.folder is None else self.folder.read(job)
        if self.folder is None or content is None:
            return None
        try:
            return unpack(content, self.form)
        except InputError as error:
            raise InputError(f"folder: {self.folder.place(job)} {error}") from error

    def finish(self, job: Job) -> bytes:
        """Train, commit to the folder, and give the state as it is in the file."""
        content = pack(self.form.state(self.train(torch.from_numpy(job.positions.copy()), job.seed)), self.form)
        if self.folder is not None:
            self.folder.commit(job, content)
        return content

    def failed(self, what: str, done: int) -> TrainingFailedError:
        """The error that says what failed, and what is kept of this call."""
        kept = (
            "" if self.folder is None or not done else f"\nThe {done} finished before are kept in {self.folder.path}."
        )
        return TrainingFailedError(f"train: {what}{kept}")


def _here(run: _Run, jobs: list[Job]) -> Iterator[tuple[str, State]]:
    for done, job in enumerate(jobs):
        try:
            content = run.finish(job)
        except NotWrittenError:
            raise
        except (Exception, SystemExit) as error:
            raise run.failed(f"{job} failed: {type(error).__name__}: {error}", done) from error
        yield job.key, unpack(content, run.form)


def _in_processes(run: _Run, jobs: list[Job], workers: int) -> Iterator[tuple[str, State]]:
    if not jobs:
        return
    context = _context(run)
    # A forked process can't use the threads that its parent's OpenMP has already started.
    threads = 1 if context.get_start_method() == "fork" else max(torch.get_num_threads() // workers, 1)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start, (run, threads))
    waiting, futures, done = iter(jobs), dict[Future[bytes | _Failure], Job](), 0
    try:
        # As many at a time as there are processes, so that none is begun after a failure.
        futures.update({pool.submit(_attempt, job): job for job in islice(waiting, workers)})
        while futures:
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                job = futures.pop(future)
                answer = _answer(run, job, future, done)
                done += 1
                futures.update({pool.submit(_attempt, job): job for job in islice(waiting, 1)})
                yield job.key, unpack(answer, run.form)
    except (KeyboardInterrupt, GeneratorExit):
        running = sum(not future.done() for future in futures)
        if running:
            print(
                f"upweight: interrupted; waiting for {running} trainings that have begun (Ctrl-C again ends them)",
                file=sys.stderr,
                flush=True,
            )
        raise
    finally:
        try:
            pool.shutdown(cancel_futures=True)
        except KeyboardInterrupt:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


def _answer(run: _Run, job: Job, future: Future[bytes | _Failure], done: int) -> bytes:
    try:
        answer = future.result()
    except BrokenProcessPool as error:
        told = f"{job}, or one begun with it: its process died (killed, or out of memory)"
        raise run.failed(told, done) from error
    if not isinstance(answer, _Failure):
        return answer
    if answer.unwritten:
        raise NotWrittenError(answer.told)
    raise run.failed(f"{job} failed: {answer.told}", done)


def _context(run: _Run) -> BaseContext:
    """Fresh processes where the training function can be imported there, else forked ones."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    # A fresh process imports the main module again, if that says where it is.
    found = getattr(main, "__spec__", None) is not None or (file is not None and os.path.exists(file))
    try:
        content = pickle.dumps(run)
        fresh = found or (file is None and b"__main__" not in content)
    except (pickle.PicklingError, AttributeError, TypeError):
        fresh = False
    if fresh:
        return multiprocessing.get_context("spawn")
    if "fork" not in multiprocessing.get_all_start_methods() or torch.cuda.is_initialized():
        raise InputError(
            "train: this function can't be sent to worker processes; define it at the top level of a module, with its "
            "data by functools.partial, or give workers=0"
        )
    return multiprocessing.get_context("fork")


_run: _Run | None = None
"""In a worker process: what its jobs share, sent once."""


def _start(run: _Run, threads: int) -> None:
    global _run
    _run = run
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; what follows is for the parent to say
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@dataclass(frozen=True)
class _Failure:
    """What happened in a worker, as text: an exception of any class may not survive the way back."""

    told: str
    unwritten: bool = False


def _attempt(job: Job) -> bytes | _Failure:
    """The packed state, or why there is none."""
    assert _run is not None
    try:
        return _run.finish(job)
    except NotWrittenError as error:
        return _Failure(str(error), unwritten=True)
    except (Exception, SystemExit):
        return _Failure(traceback.format_exc())
