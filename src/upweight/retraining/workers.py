"""Any training function, many times over, in worker processes; what is finished survives a kill."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from upweight.messages import InputError
from upweight.progress import track
from upweight.retraining.finished import Folder, Form, Job, State, pack, unpack
from upweight.retraining.trained import Trained, checked_jobs, warn_if_diverged

Train = Callable[[Int[Tensor, " size"], int], Any]
"""(positions of the training examples, seed) -> the trained module, or its θ [p]."""


class TrainingFailedError(RuntimeError):
    """A training function raised, or its process died; the message names the subset, the seed and the cause."""


def train_many(
    train: Train,
    jobs: Sequence[tuple[Any, int]],
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
        Where finished models are kept and, on the next call, read back instead of trained. It belongs to one
        ``train``: give another folder when that function or its data change.

    Returns
    -------
    The models in the order of the jobs.

    Raises
    ------
    TrainingFailedError
        If ``train`` raises, returns no such model, or its process dies. Jobs that have begun are finished and kept,
        no others are begun.
    InputError
        If an argument is impossible, or a file in the folder is not the state of such a model.
    """
    started = time.perf_counter()
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise InputError(f"workers: a number of processes ≥ 0; got {workers!r}")
    subsets, seeds = checked_jobs([subset for subset, _ in jobs], [seed for _, seed in jobs])
    every = [
        Job(number, subset.numpy(), seed) for number, (subset, seed) in enumerate(zip(subsets, seeds, strict=True))
    ]
    run = _Run(train, Form.of(model), None if folder is None else Folder(Path(folder)))
    states = {job.key: state for job in every if (state := run.known(job)) is not None}
    pending = list({job.key: job for job in every if job.key not in states}.values())
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
        copy.deepcopy(model).eval(),
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
        return None if content is None else unpack(content, self.form)

    def finish(self, job: Job) -> bytes:
        """Train, commit to the folder, and give the state as it is in the file."""
        content = pack(self.form.state(self.train(torch.from_numpy(job.positions.copy()), job.seed)), self.form)
        if self.folder is not None:
            self.folder.commit(job, content)
        return content

    def failed(self, what: str) -> TrainingFailedError:
        """The error that says what failed and what is kept."""
        kept = "" if self.folder is None else f"\nModels finished so far are kept in {self.folder.path}."
        return TrainingFailedError(f"train: {what}{kept}")


def _here(run: _Run, jobs: list[Job]) -> Iterator[tuple[str, State]]:
    for job in jobs:
        try:
            content = run.finish(job)
        except Exception as error:
            raise run.failed(f"{job} failed: {type(error).__name__}: {error}") from error
        yield job.key, unpack(content, run.form)


def _in_processes(run: _Run, jobs: list[Job], workers: int) -> Iterator[tuple[str, State]]:
    if not jobs:
        return
    context = _context(run)
    # A forked process can't use the threads that its parent's OpenMP has already started.
    threads = 1 if context.get_start_method() == "fork" else max(torch.get_num_threads() // workers, 1)
    pool = ProcessPoolExecutor(workers, context, _start, (run, threads))
    try:
        futures = {pool.submit(_attempt, job): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            try:
                answer = future.result()
            except BrokenProcessPool as error:
                raise run.failed(f"{job}, or one begun with it: its process died (killed, or out of memory)") from error
            if isinstance(answer, str):
                raise run.failed(f"{job} failed: {answer}")
            yield job.key, unpack(answer, run.form)
    finally:
        pool.shutdown(cancel_futures=True)


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
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _attempt(job: Job) -> bytes | str:
    """The packed state, or the traceback as text: an exception of any class may not survive the way back."""
    assert _run is not None
    try:
        return _run.finish(job)
    except Exception:
        return traceback.format_exc()
