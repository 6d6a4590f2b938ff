"""Workers that know what a study file defines: each runs the file itself before it reads what it is sent."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from upweight import study
from upweight.data import MapData
from upweight.errors import InputError
from upweight.executors import Executor
from upweight.executors.interface import Result, Task
from upweight.jobs import fingerprints, theta
from upweight.jobs.description import WORDS
from upweight.objective import Objective


@dataclass(frozen=True)
class OfStudy:
    """An executor for work on a study, whose model, loss or data may be of classes that only its file defines.

    A worker is sent what it needs, the trained model included, and runs the study's file first, without ``study()``.
    Where something of the study can't be sent (classes within a function, lambdas, open files), the worker calls
    ``study()`` too, takes model, loss, data and queries from there, and refuses them if they are others.

    Attributes
    ----------
    executor
        Who has the workers.
    path
        Of the study file, for every worker the same.
    study
        What it gave here, its objective at the θ of the job.
    digest
        Of the file as it was run here (`digest`).
    """

    executor: Executor
    path: Path
    study: study.Study
    digest: str

    @property
    def workers(self) -> int:
        """How many tasks run at a time."""
        return self.executor.workers

    def run(
        self, tasks: Iterable[Task], make_worker: Callable[[], Callable[[Task], Result]]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Each task with its result, as they end; see `Executor.run`.

        Raises
        ------
        InputError
            If a worker can't run the study file, finds another one, or gets another study from it; or if what the study
            needs can't be sent, even without model, loss and data.
        """
        return self.executor.run(tasks, self._sent(make_worker))

    def _sent(self, make_worker: Callable[[], Any]) -> _Sent:
        place = (str(self.path), os.getcwd(), self.digest, fingerprints.versions())
        try:
            return _Sent(*place, pickle.dumps(make_worker), None)
        except Exception as error:  # of whatever kind a class's own pickling raises
            told = f"{type(error).__name__}: {error}"
        stream = io.BytesIO()
        try:
            _Without(stream, parts(self.study.objective, self.study)).dump(make_worker)
        except Exception as error:
            raise InputError(
                f"{self.path}: this study can't be sent to workers ({told}; without its model and data "
                f"{type(error).__name__}: {error}); define its classes and functions at the top level of the file"
            ) from error
        objective = self.study.objective
        return _Sent(
            *place, stream.getvalue(), _Expected(told, fingerprints.of_objective(objective), objective.params.cpu())
        )


def digest(path: Path) -> str:
    """What tells a study file from another version of it.

    Raises
    ------
    InputError
        If there is no such file.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[: fingerprints.LENGTH]
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error})") from error


def parts(objective: Objective, of: study.Study) -> dict[str, Any]:
    """What every process gets by calling ``study()``, by name; ``objective``: the study's, at the θ of the job."""
    every = {
        "objective": objective,
        "engine": objective.engine,
        "problem": objective.problem,
        "model": objective.model,
        "loss": objective.loss,
        "data": objective.data,
        "queries": of.queries,
    }
    if isinstance(objective.data, MapData):
        every |= {"dataset": objective.data.dataset, "collate": objective.data.collate}
    return every


class _Without(pickle.Pickler):
    """Leaves out what the other side has."""

    def __init__(self, stream: io.BytesIO, every: dict[str, Any]):
        super().__init__(stream)
        self._every = every  # their ids are those of living objects
        self._names = {id(value): name for name, value in every.items()}

    def persistent_id(self, value: Any) -> str | None:
        """See `pickle.Pickler`."""
        return self._names.get(id(value))


class _With(pickle.Unpickler):
    """Puts in what `_Without` left out."""

    def __init__(self, content: bytes, every: dict[str, Any]):
        super().__init__(io.BytesIO(content))
        self._every = every

    def persistent_load(self, name: str) -> Any:
        """See `pickle.Unpickler`."""
        return self._every[name]


@dataclass(frozen=True)
class _Expected:
    """Why model and data weren't sent, and what ``study()`` is to give instead: its fingerprints, and θ."""

    told: str
    fingerprints: dict[str, str]
    params: Tensor


@dataclass(frozen=True)
class _Sent:
    """Makes a worker in another process, be it on another machine; ``without``: None where all was sent."""

    path: str
    folder: str
    digest: str
    versions: dict[str, str]
    content: bytes
    without: _Expected | None

    def __call__(self) -> Callable[[Any], Any]:
        if fingerprints.versions() != self.versions:
            raise InputError(
                f"{self._where} has {fingerprints.versions()} instead of {self.versions}; install the same"
            )
        os.chdir(self._folder)
        found = digest(Path(self._here))
        if found != self.digest:
            raise InputError(f"{self.path}: {self._where} finds another version of it; leave it as it is during a job")
        every: dict[str, Any] = {}
        try:
            if self.without is None:
                study.run(self.path)
            else:
                given = study.load(self.path)
                objective = theta.at_kept(given.objective, self.without.params)
                self._refuse_other(objective, self.without)
                every = parts(objective, given)
        except InputError as error:
            raise InputError(f"{self._where}: {error}") from error
        made: Callable[[], Any] = _With(self.content, every).load()
        return made()

    def _refuse_other(self, objective: Objective, expected: _Expected) -> None:
        found = fingerprints.of_objective(objective)
        for name, value in expected.fingerprints.items():
            if found[name] != value:
                raise InputError(
                    f"{self.path}: study() gives {WORDS[name]} here than where the job began ({name}={found[name]!r} "
                    f"instead of {value!r}); let it load a trained model from a file, or let all that it uses be sent: "
                    f"define it at the top level of the file ({expected.told})"
                )

    @property
    def _folder(self) -> str:
        if not os.path.isdir(self.folder):
            raise InputError(f"{self.folder}: {self._where} has no such folder, in which the job began; {NODES}")
        return self.folder

    @property
    def _here(self) -> str:
        if not os.path.isfile(self.path):
            raise InputError(f"{self.path}: {self._where} has no such file; {NODES}")
        return self.path

    @property
    def _where(self) -> str:
        return f"a worker on {socket.gethostname()}"


NODES = "put study and store where all nodes see them under one name"
