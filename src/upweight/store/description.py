"""The description of a store: what its blocks belong to, and, once all are there, what the result is."""

from __future__ import annotations

from typing import Any

from upweight.errors import InputError
from upweight.store.backend import Backend
from upweight.store.sealed import unseal

DESCRIPTION, RESULT = "store.json", "result.json"
FORMAT = 1


def described(backend: Backend, missing: str | None = "holds no store") -> dict[str, Any] | None:
    """What the store says of itself.

    Parameters
    ----------
    missing
        What is said where there is none; None: then None is given.

    Raises
    ------
    InputError
        If it was cut or altered, or is of a later format.
    """
    content = backend.read(DESCRIPTION)
    if content is None:
        if missing is None:
            return None
        raise InputError(
            f"store: {backend} {missing} (it has no {DESCRIPTION}); give the place that a job was told with store=…"
        )
    return _unsealed(backend, DESCRIPTION, content)


def result(backend: Backend) -> dict[str, Any] | None:
    """What the finished job says of its result; None while shards are missing.

    Raises
    ------
    InputError
        If it was cut or altered.
    """
    content = backend.read(RESULT)
    return None if content is None else _unsealed(backend, RESULT, content)


def _unsealed(backend: Backend, name: str, content: bytes) -> dict[str, Any]:
    said = unseal(content)
    if said is None:
        raise InputError(
            f"store: {name} in {backend} was cut or altered; bring back a copy, or do the job in another place"
        )
    if name == DESCRIPTION and said.get("format") != FORMAT:
        raise InputError(f"store: {backend} has format {said.get('format')!r}; this version of upweight reads {FORMAT}")
    return said
