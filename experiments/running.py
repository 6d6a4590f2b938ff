"""An experiment as a process: alone, and what stops it said in a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from experiments import provenance
from experiments.alone import AlreadyRunningError, alone
from upweight import datasets, files

BUSY, NO_DATA, NO_ROOM = 75, 69, 74
"""Exit codes, as sysexits.h has them for what may go another time, for what is missing and for input and output."""
SAID = {
    BUSY: "another process is at it",
    NO_DATA: "its data can't be had",
    NO_ROOM: "something can't be written, as a full disk",
}
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(main: Callable[[], object]) -> None:
    """Run an experiment's ``main``, alone; end the process with a message where that can't be.

    Quick runs and others write elsewhere, so they may go at once.
    """
    name = module(main)
    provenance.begin()
    try:
        with alone(folder() / f"{name}{'-quick' if os.environ.get('QUICK') else ''}"):
            main()
    except AlreadyRunningError as error:
        _end(name, str(error), BUSY)
    except datasets.DataUnavailable as error:
        _end(name, str(error), NO_DATA)
    except Exception as error:
        said = not_written(error)
        if said is None:
            raise
        _end(name, f"{said}. What was finished is kept: free some room and run it again", NO_ROOM)


def module(main: Callable[[], object]) -> str:
    """The experiment's name as ``python -m`` takes it."""
    spec = sys.modules["__main__"].__spec__
    return spec.name if main.__module__ == "__main__" and spec is not None else main.__module__


def folder() -> Path:
    """Where what experiments have finished is kept."""
    return user_cache_path("upweight") / "experiments"


def not_written(error: BaseException | None) -> str | None:
    """What couldn't be written, if that is what is behind an error; workers' errors come without their cause."""
    while error is not None:
        if isinstance(error, files.NotWrittenError):
            return str(error)
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            return f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}"
        error = error.__cause__ or error.__context__
    return None


def _end(name: str, words: str, code: int) -> None:
    print(f"{name}: {words}", file=sys.stderr, flush=True)
    sys.exit(code)
