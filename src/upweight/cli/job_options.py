"""Options of the commands that work on a store, and who does their work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from upweight.executors import Executor
    from upweight.store.backend import Backend

StudyFile = Annotated[
    Path, typer.Argument(help="A Python study file (see examples/digits_study.py).", show_default=False)
]
Store = Annotated[
    str, typer.Argument(metavar="DIR", help="Where `upweight attribute` or `explore` put scores.", show_default=False)
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-w", min=1, help="Worker processes of this machine; with --ray or --slurm, workers there."),  # noqa: E501
]  # fmt: skip
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster: its address, 'auto' for the one of this machine, 'local' for one begun for the "
        "work. As many workers as it has CPUs, unless --workers says.",
    ),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="NAME=VALUE",
        help="Work as jobs of Slurm, as many as --workers; a setting of theirs as submitit knows it, such as "
        "timeout_min=60; repeat it. 'folder' is where tasks and logs go (else DIR.slurm), 'cluster' may be local.",
        show_default=False,
    ),
]


def who(workers: int | None, ray: str | None, slurm: list[str] | None, store: str) -> Executor:
    """The executor that the options name: this process where they name none.

    Raises
    ------
    InputError
        If they contradict each other, or Slurm's don't say how many or how long.
    MissingExtraError
        If its packages aren't installed, with the line that installs them.
    """
    from upweight import executors
    from upweight.errors import InputError

    if ray is not None and slurm:
        raise InputError("--ray and --slurm: give one of them")
    if ray is not None:
        return executors.Ray(workers, address=ray)
    if slurm:
        if workers is None:
            raise InputError("--slurm: say how many jobs, with --workers N")
        settings = dict(map(setting, slurm))
        folder = str(settings.pop("folder", f"{store.rstrip('/')}.slurm"))
        if "://" in folder:
            raise InputError("--slurm: name a folder that all nodes see, with --slurm folder=…")
        return executors.Slurm(workers, folder=folder, **settings)
    return executors.InProcess() if workers is None else executors.Processes(workers, called="shards")


def place_of(store: str) -> Backend:
    """Where DIR's scores are.

    Raises
    ------
    InputError
        If it holds none.
    """
    from upweight.errors import InputError
    from upweight.store.backend import backend
    from upweight.store.description import DESCRIPTION, described

    place = backend(store, "DIR")
    if described(place, missing=None) is None:
        raise InputError(
            f"DIR: {place} holds no store (it has no {DESCRIPTION}); give the folder where `upweight attribute` or "
            "`upweight explore` put scores"
        )
    return place


def setting(words: str) -> tuple[str, Any]:
    """A ``name=value``; values that are whole numbers are numbers.

    Raises
    ------
    InputError
        If it is none.
    """
    from upweight.errors import InputError

    name, equals, value = words.partition("=")
    if not equals or not name.isidentifier() or not value:
        raise InputError(f"--slurm: give NAME=VALUE, such as timeout_min=60; got {words!r}")
    if name in ("workers", "retries") and not value.isdigit():
        raise InputError(f"--slurm: {name} is a whole number; got {value!r}")
    return name, int(value) if value.isdigit() else value
