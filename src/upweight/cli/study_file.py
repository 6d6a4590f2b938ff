"""A study file as the commands read it: whatever it opens, prints or closes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upweight.cli.standard_output import streams_kept
from upweight.errors import InputError

if TYPE_CHECKING:
    from upweight.replay import Replay
    from upweight.study import Study


def is_study(path: Path) -> bool:
    """Whether this is a study file, by its name."""
    return path.suffix.lower() == ".py"


def refuse_other(path: Path) -> None:
    """Refuse, for commands that take study files alone, what is none by its name.

    Raises
    ------
    InputError
        If it doesn't end in ``.py``.
    """
    if not is_study(path):
        raise InputError(f"{path}: is no study file; give a Python file (.py) that defines study()")


def read_study(path: Path) -> Study:
    """Run a study file; standard output and the error stream are as they were afterwards.

    Raises
    ------
    InputError
        If it is none, or fails.
    """
    from upweight.study import load

    refuse_other(path)
    with streams_kept():
        return load(path)


def read_replay(path: Path, store: str | None) -> tuple[Study, Replay]:
    """The study of a file, and the training that its ``replay()`` declares, kept in a store if one is named.

    Raises
    ------
    InputError
        If the file is none, fails, or declares no training.
    """
    from upweight.replay import Replay
    from upweight.study import load_with

    refuse_other(path)
    with streams_kept():
        study, found = load_with(path, "replay", "upweight.Replay(model, loss, data, optimizer=…, epochs=…, …)")
    if not isinstance(found, Replay):
        raise InputError(f"{path}: replay gives {type(found).__name__}; return upweight.Replay(model, loss, data, …)")
    return study, found if store is None else found.kept_in(store)
