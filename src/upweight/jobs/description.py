"""What a store's blocks belong to: written when a job begins, compared when one goes on, read when it is opened."""

from __future__ import annotations

from typing import Any

from upweight.errors import InputError
from upweight.jobs.begun import refuse_foreign
from upweight.store.backend import Backend
from upweight.store.description import DESCRIPTION, FORMAT, RESULT, described
from upweight.store.sealed import seal

WORDS = {
    "model": "another model, or another θ of it",
    "l2": "another penalty",
    "loss": "another loss",
    "data": "other training data, or other weights of them",
    "ids": "training examples of other names, or in another order",
    "queries": "other queries",
}


def begin(backend: Backend, said: dict[str, Any], *, resume: bool) -> tuple[dict[str, Any], bool]:
    """Describe a new job, or find that of a store that goes on with the same; whether it is new.

    What stands in the store is given back: shards and the size of passes stay as they were begun.

    Raises
    ------
    InputError
        If the store holds a job of something else, with the first thing that differs and both values; if it holds any
        and ``resume`` is False; if it is no store.
    upweight.files.NotWrittenError
        If nothing can be written there.
    """
    found = described(backend, missing=None)
    if found is None:
        refuse_foreign(backend)
        said = {"format": FORMAT, **said}
        backend.write(DESCRIPTION, seal(said))
        return said, True
    if not resume:
        raise InputError(f"store: {backend} holds a job already; give resume=True to go on with it, or another place")
    refuse_other(backend, found, said)
    return found, False


def refuse_other(backend: Backend, found: dict[str, Any], said: dict[str, Any]) -> None:
    """Refuse a store whose blocks belong to something else than ``said``.

    Raises
    ------
    InputError
        Names the first thing that differs, and both values.
    """
    mend = "give another store, or what this one was begun with"
    for part in ("kind", "fingerprints", "settings", "versions"):
        theirs, ours = found.get(part), said[part]
        if not isinstance(ours, dict):
            if theirs != ours:
                raise InputError(f"store: {backend} is of the kind {theirs!r}, not {ours!r}; {mend}")
            continue
        theirs = theirs if isinstance(theirs, dict) else {}
        for name in dict.fromkeys([*ours, *theirs]):
            if ours.get(name) != theirs.get(name):
                words = f" ({WORDS[name]})" if part == "fingerprints" else ""
                raise InputError(
                    f"store: {backend} was begun with {name}={theirs.get(name)!r}, and this call has "
                    f"{name}={ours.get(name)!r}{words}; {mend}"
                )


def finish(backend: Backend, result: dict[str, Any]) -> None:
    """Say what the scores are, now that all of them are there."""
    backend.write(RESULT, seal(result))
