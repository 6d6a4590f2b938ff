"""One run of a command: what it prints, for people or for machines, and how it fails."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.text import Text

from upweight.cli.json_always import EARLY, ENDED, INTERRUPTED, TERMINATED, Terminated, answer, failure
from upweight.cli.reads import recorded
from upweight.cli.standard_output import UnwritableError, printing
from upweight.datasets.errors import DataUnavailable
from upweight.errors import DivergedError, InputError, MissingExtraError, NegativeCurvatureError, UpweightWarning
from upweight.executors import TaskFailedError, WorkerDiedError
from upweight.files import NotWrittenError

REFUSALS = (InputError, MissingExtraError, NegativeCurvatureError, DivergedError, DataUnavailable, OSError)
"""What a user can mend; anything else is a fault of the package and shows its traceback."""
SYSTEM = (OSError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
"""Errors whose words Python makes of the system's."""
FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)
"""Warnings that say nothing about a result."""


class Session:
    """Collects what a command has to say; made by `session`."""

    def __init__(self, as_json: bool, quiet: bool):
        self.as_json, self.quiet = as_json, quiet
        self.out = _Output(highlight=False)
        self.err = Console(stderr=True, highlight=False)
        self.result: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.files: dict[str, Path] = {}
        self.kept: Callable[[], str] = str
        """What is kept of what was done, said where the command ends early; nothing by default."""
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return time.perf_counter() - self.started

    def stage(self, text: str) -> None:
        """Say what is being done, on the error stream."""
        if not (self.as_json or self.quiet):
            self.err.print(Text(f"· {text}", style="dim"))

    def show(self, *parts: RenderableType) -> None:
        """Print results for people."""
        if not (self.as_json or self.quiet):
            self.print(*parts, sep="\n")

    def print(self, *parts: RenderableType, **options: Any) -> None:
        """Print on standard output."""
        with printing():
            self.out.print(*parts, **options)

    def note(self, text: str) -> None:
        """Print a remark that is no result."""
        self.show(Text(f"note: {text}", style="yellow"))

    def finish(self) -> None:
        """Print the warnings and where the results are, or the JSON object."""
        if self.as_json:
            end = {"warnings": self.warnings, "files": self.files, "seconds": round(self.seconds, 3)}
            answer(plain({**self.result, **end}))
            return
        for message in self.warnings:
            self.note(message)
        for name, path in self.files.items():
            self.print(Text(f"{name}: {path}"), soft_wrap=True)

    def fail(self, kind: str, message: str, *, title: str = "error", **more: Any) -> None:
        """Print one clear message without traceback."""
        if self.as_json:
            answer(failure(kind, message, **more))
            return
        self.err.print(Panel(Text(message), title=title, title_align="left", border_style="red"))


class _Output(Console):
    """Standard output, whose reader may have seen enough: rich would end the process by itself."""

    def on_broken_pipe(self) -> None:
        """Say so as Python does."""
        raise BrokenPipeError


@contextmanager
def session(as_json: bool, quiet: bool) -> Iterator[Session]:
    """Run a command: the package's warnings become notes, what a user can mend an error panel and exit code 1."""
    run = Session(as_json, quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("always", UpweightWarning)

        def collect(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
            words = str(message)
            if not issubclass(category, UpweightWarning):
                # Of another package, or of the user's study: a remark, not lines of somebody's code amid the output.
                words = f"{category.__name__}: {' '.join(words.split())}"
            if not issubclass(category, FOR_DEVELOPERS) and words not in run.warnings:
                run.warnings.append(words)

        warnings.showwarning = collect
        try:
            with recorded():
                yield run
            run.finish()
        except BrokenPipeError:  # the reader (head, less) has seen enough
            sys.stderr.close()
            raise typer.Exit(1) from None
        except REFUSALS as error:
            if isinstance(error, UnwritableError):
                raise
            run.fail(type(error).__name__, told(error) + (run.kept() if isinstance(error, NotWrittenError) else ""))
            raise typer.Exit(1) from None
        except (TaskFailedError, WorkerDiedError) as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, REFUSALS):
                raise  # a fault of this process, whose traceback is not told yet
            run.fail(type(error).__name__, str(error).rstrip() + run.kept())
            raise typer.Exit(1) from None
        except Terminated:
            run.fail("Terminated", EARLY + run.kept())
            raise typer.Exit(TERMINATED) from None
        except KeyboardInterrupt:
            run.fail("Interrupted", EARLY + run.kept())
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit as error:  # of what a study calls
            run.fail("SystemExit", f"{ENDED}{error.code!r})")
            raise typer.Exit(1) from None


def told(error: BaseException) -> str:
    """What an error says; of the system's without their numbers."""
    if type(error) in SYSTEM and isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        return "the current folder is no more; change to one that is there"
    return str(error)


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def plain(value: Any) -> Any:
    """The value as JSON knows it: numbers of Python, paths as text, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        value = item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
