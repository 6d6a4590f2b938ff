"""A value read piece by piece, whatever it is."""

from __future__ import annotations

import _thread
import functools
import hashlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from upweight.retraining.fingerprint.unknown import UnknownContentError

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), torch.dtype, torch.device, torch.layout)
LOCKS = (_thread.LockType, type(threading.RLock()))
"""What holds nothing that a result could depend on."""


class Walk:
    """One reading of a value.

    Everything that could hold itself is numbered in the order in which it is met, and kept alive, so that no address is
    used twice; met again, its number stands for it. Nothing else that is read depends on the process.
    """

    def __init__(self, reader_of: Callable[[Any], Reader]):
        self.reader_of = reader_of
        self.met: dict[int, tuple[int, Any]] = {}

    def parts(self, value: Any) -> Iterator[bytes]:
        """Everything that makes a value what it is."""
        kind = type(value)
        if kind in PLAIN:
            yield f"{kind.__name__} {value!r}".encode(errors="backslashreplace")
        elif kind is tuple:  # can hold itself by way of something that is numbered only
            yield from self.sequence(value)
        elif kind is frozenset:
            yield from self.set(value)
        elif id(value) in self.met:
            yield f"again {self.met[id(value)][0]}".encode()
        else:
            self.met[id(value)] = (len(self.met), value)
            yield from self.reader_of(value)(self, value)

    def named(self, name: str, value: Any) -> Iterator[bytes]:
        """A value with the name that leads to it."""
        yield name.encode(errors="backslashreplace")
        try:
            yield from self.parts(value)
        except UnknownContentError as error:
            error.trail.insert(0, name)
            raise

    def all(self, *values: Any) -> Iterator[bytes]:
        """Several values, one after the other."""
        for value in values:
            yield from self.parts(value)

    def sequence(self, value: Any) -> Iterator[bytes]:
        """Items in their order."""
        yield f"{type(value).__name__} of {len(value)}".encode()
        for item in value:
            yield from self.parts(item)

    def mapping(self, value: Any) -> Iterator[bytes]:
        """In its order, which a loop over it sees."""
        yield f"dict of {len(value)}".encode()
        for key, item in value.items():
            if type(key) is str:
                yield from self.named(key, item)
            else:
                yield from self.all(key, item)

    def set(self, value: Iterable[Any]) -> Iterator[bytes]:
        """Its order changes from process to process, so each item is read as if it were the first."""
        yield type(value).__name__.encode()
        found, before = [], len(self.met)
        for item in value:
            found.append(_digest(self.parts(item)))
            while len(self.met) > before:
                self.met.popitem()
        yield from sorted(found)

    def again(self, value: weakref.ref[Any]) -> Iterator[bytes]:
        """What a weak reference leads to."""
        yield b"reference"
        yield from self.parts(value())

    def partial(self, value: functools.partial[Any]) -> Iterator[bytes]:
        """A function with arguments given."""
        yield from self.all(type(value), value.func, value.args, sorted(value.keywords))
        for name in sorted(value.keywords):
            yield from self.named(name, value.keywords[name])
        yield from self.parts(vars(value))

    def generator(self, value: torch.Generator) -> Iterator[bytes]:
        """A generator's state."""
        yield f"generator {value.device}".encode()
        yield from self.parts(value.get_state())

    def lock(self, value: Any) -> Iterator[bytes]:
        """A lock, free or held."""
        yield b"lock"

    def listed(self, value: Any) -> Iterator[bytes]:
        """A view of a mapping."""
        yield type(value).__name__.encode()
        yield from self.sequence(list(value))


Reader = Callable[[Walk, Any], Iterator[bytes]]


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
