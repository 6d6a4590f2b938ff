"""A value read piece by piece, whatever it is."""

from __future__ import annotations

import _thread
import functools
import hashlib
import threading
import types
import weakref
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Any

import numpy as np
import torch
from torch import nn

from upweight.retraining.fingerprint import arrays, code, objects
from upweight.retraining.fingerprint.unknown import UnknownContentError

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), torch.dtype, torch.device, torch.layout)
LOCKS = (_thread.LockType, type(threading.RLock()))
"""What holds nothing that a result could depend on."""


class Walk:
    """One reading of a value.

    Everything that could hold itself is numbered in the order in which it is met, and kept alive, so that no address is
    used twice; met again, its number stands for it. Nothing else that is read depends on the process.
    """

    def __init__(self) -> None:
        self.met: dict[int, tuple[int, Any]] = {}

    def parts(self, value: Any) -> Iterator[bytes]:
        """Everything that makes a value what it is."""
        kind = type(value)
        if kind in PLAIN:
            yield f"{kind.__name__} {value!r}".encode(errors="backslashreplace")
        elif kind is tuple:  # can hold itself by way of something that is numbered only
            yield from self._sequence(value)
        elif kind is frozenset:
            yield from self._set(value)
        elif id(value) in self.met:
            yield f"again {self.met[id(value)][0]}".encode()
        else:
            self.met[id(value)] = (len(self.met), value)
            yield from _reader(value)(self, value)

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

    def _sequence(self, value: Any) -> Iterator[bytes]:
        yield f"{type(value).__name__} of {len(value)}".encode()
        for item in value:
            yield from self.parts(item)

    def _mapping(self, value: Any) -> Iterator[bytes]:
        """In its order, which a loop over it sees."""
        yield f"dict of {len(value)}".encode()
        for key, item in value.items():
            if type(key) is str:
                yield from self.named(key, item)
            else:
                yield from self.all(key, item)

    def _set(self, value: Iterable[Any]) -> Iterator[bytes]:
        """Its order changes from process to process, so each item is read as if it were the first."""
        yield type(value).__name__.encode()
        found, before = [], len(self.met)
        for item in value:
            found.append(_digest(self.parts(item)))
            while len(self.met) > before:
                self.met.popitem()
        yield from sorted(found)

    def _again(self, value: weakref.ref[Any]) -> Iterator[bytes]:
        yield b"reference"
        yield from self.parts(value())

    def _partial(self, value: functools.partial[Any]) -> Iterator[bytes]:
        yield from self.all(type(value), value.func, value.args, sorted(value.keywords))
        for name in sorted(value.keywords):
            yield from self.named(name, value.keywords[name])
        yield from self.parts(vars(value))

    def _generator(self, value: torch.Generator) -> Iterator[bytes]:
        yield f"generator {value.device}".encode()
        yield from self.parts(value.get_state())

    def _lock(self, value: Any) -> Iterator[bytes]:
        yield b"lock"

    def _listed(self, value: Any) -> Iterator[bytes]:
        yield type(value).__name__.encode()
        yield from self._sequence(list(value))


Reader = Callable[[Walk, Any], Iterator[bytes]]


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _reader(value: Any) -> Reader:
    """How a value of this kind is read."""
    kind = type(value)
    for kinds, reader in EXACTLY:
        if kind in kinds:
            return reader
    for kinds, reader in ALSO_DERIVED:
        if isinstance(value, kinds):
            return reader
    return arrays.of_pandas(value) or objects.pickled


EXACTLY: list[tuple[tuple[type, ...], Reader]] = [
    ((list,), Walk._sequence),
    ((dict, types.MappingProxyType), Walk._mapping),
    ((set,), Walk._set),
    ((weakref.ref,), Walk._again),
    ((torch.Generator,), Walk._generator),
    (LOCKS, Walk._lock),
    ((np.ndarray, np.memmap), arrays.array),
    ((types.BuiltinFunctionType,), code.builtin),
    ((types.MethodType,), code.method),
    ((types.CodeType,), code.compiled),
    ((types.CellType,), code.cell),
    ((property,), code.of_property),
    ((staticmethod, classmethod), code.inner),
    ((functools._lru_cache_wrapper,), code.cached),
    ((types.GetSetDescriptorType, types.MemberDescriptorType), code.descriptor),
]
ALSO_DERIVED: list[tuple[tuple[type, ...], Reader]] = [
    ((KeysView, ValuesView, ItemsView), Walk._listed),
    ((functools.partial,), Walk._partial),
    ((types.FunctionType,), code.function),
    ((types.ModuleType,), code.module),
    ((type,), code.of_class),
    ((torch.Tensor,), arrays.tensor),
    ((np.generic,), arrays.array),
    ((np.dtype,), arrays.dtype),
    ((nn.Module,), objects.of_module),
]
