"""Any training function, many times over, in worker processes; what is finished survives a kill."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from upweight import kinds, scalars
from upweight.errors import InputError
from upweight.executors import Executor, InProcess, Processes, TaskFailedError, WorkerDiedError
from upweight.executors.processes import can_be_sent, can_fork
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
    executor: Executor | None = None,
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
    executor
        In place of ``workers``: one of `upweight.executors`, for a cluster. Its processes must reach the folder.

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
    if executor is not None and workers:
        raise InputError(f"workers: got {workers} beside an executor; give one of both")
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
    who = _executor(run, min(workers, len(pending))) if executor is None else executor
    states.update(track(_trained(run, pending, who), words, len(pending)))
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


def _trained(run: _Run, jobs: list[Job], executor: Executor) -> Iterator[tuple[str, State]]:
    """The key and the state of every job, as they end."""
    done = 0
    try:
        for job, content in executor.run(jobs, partial(_worker, run)):
            done += 1
            yield job.key, unpack(content, run.form)
    except NotWrittenError:
        raise
    except WorkerDiedError as error:
        raise run.failed(f"{error.task}: its process died (killed, or out of memory)", done) from error
    except (TaskFailedError, InputError) as error:
        failed = error if isinstance(error, TaskFailedError) else error.__cause__
        if not isinstance(failed, TaskFailedError):
            raise
        raise run.failed(f"{failed.task} failed: {failed.told}", done) from failed.__cause__


def _worker(run: _Run) -> Callable[[Job], bytes]:
    return run.finish


def _executor(run: _Run, workers: int) -> Executor:
    """Where a run's jobs are done. A death isn't tried again: training would most often die of the same."""
    if not workers:
        return InProcess()
    return Processes(workers, retries=0, start=_context(run).get_start_method(), called="trainings")


def _context(run: _Run) -> BaseContext:
    """Fresh processes where the training function can be imported there, else forked ones."""
    if can_be_sent(run):
        return multiprocessing.get_context("spawn")
    if not can_fork():
        raise InputError(
            "train: this function can't be sent to worker processes; define it at the top level of a module, with its "
            "data by functools.partial, or give workers=0"
        )
    return multiprocessing.get_context("fork")
