"""How a job's scores are kept, and who makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np

from upweight import scalars
from upweight.errors import InputError
from upweight.executors import Executor, InProcess
from upweight.store import columns
from upweight.store.backend import Backend, Memory, Place, backend

TAKEN = ("query", "rank", "id", "position", "score")
"""What `upweight.Stored.to_pandas` calls its own columns."""


class Keeping(TypedDict, total=False):
    """What goes with a store, as `Kept` has it."""

    top_k: int | None
    executor: Executor | None
    shard_size: int | None
    resume: bool
    columns: Mapping[str, Sequence[Any] | np.ndarray] | None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How a job's scores are kept, and who makes them.

    Attributes
    ----------
    store
        A folder, a URL that fsspec knows, or a backend (`upweight.store`).
    top_k
        How many of the largest, and of the smallest, scores of each query are kept; None: all scores.
    executor
        One of `upweight.executors`; default: this process.
    shard_size
        Training examples of a shard; default: by memory.
    resume
        Whether a job that the store holds may be gone on with.
    columns
        What else is to stand beside scores, a value for each training example: texts, paths, labels.
    """

    store: Any
    top_k: int | None = None
    executor: Executor | None = None
    shard_size: int | None = None
    resume: bool = True
    columns: Mapping[str, Sequence[Any] | np.ndarray] | None = None

    @property
    def who(self) -> Executor:
        """Who does the shards."""
        return InProcess() if self.executor is None else self.executor

    def check(self) -> Backend:
        """The store, all arguments checked.

        Raises
        ------
        InputError
            Names the argument.
        """
        place = backend(self.store)
        if self.top_k is not None:
            scalars.whole("top_k", self.top_k)
        if self.shard_size is not None:
            scalars.whole("shard_size", self.shard_size)
        scalars.flag("resume", self.resume)
        if not isinstance(self.who, Executor) or isinstance(self.who, type):
            raise InputError(
                f"executor: {scalars.shown(self.executor)} is none of upweight.executors, such as Processes(4)"
            )
        if isinstance(place, Memory) and not isinstance(self.who, InProcess):
            raise InputError("store: memory belongs to one process; give a folder, or leave executor out")
        return place

    def checked_columns(self, examples: int) -> dict[str, np.ndarray]:
        """The columns of so many training examples, by name.

        Raises
        ------
        InputError
            If they aren't values by name, or can't be kept.
        """
        given = {} if self.columns is None else self.columns
        if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
            raise InputError(f"columns: give values by name, {{'text': […]}}; got {scalars.shown(given)}")
        taken = [name for name in given if name in TAKEN]
        if taken:
            raise InputError(f"columns: tables of scores have a column {taken[0]!r} of their own; give another name")
        return {name: columns.checked(f"columns: {name}", values, examples) for name, values in given.items()}


def as_kept(store: Place | None, **kept: Unpack[Keeping]) -> Kept | None:
    """How scores are kept, where they go into a store; its arguments mean nothing without one."""
    if store is None:
        for name, value in kept.items():
            if name != "resume" and value is not None:
                raise InputError(f"{name}: goes with a store; give store='folder' beside it, or leave it out")
        return None
    found = Kept(store=store, **kept)
    found.check()
    return found
