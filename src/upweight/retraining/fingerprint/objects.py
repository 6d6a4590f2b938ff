"""Objects of any kind: by their class and by what pickling would keep of them."""

from __future__ import annotations

import copyreg
import functools
import pickle
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from upweight.retraining.fingerprint.code import is_installed, is_installed_class, resolved
from upweight.retraining.fingerprint.unknown import unknown

if TYPE_CHECKING:
    from upweight.retraining.fingerprint.walk import Walk

LONGEST = 6
"""What `__reduce_ex__` gives at most: a function, its arguments, the state, items, pairs, a setter of the state."""


def pickled(walk: Walk, value: Any) -> Iterator[bytes]:
    """Its class, and its content by ``__reduce_ex__``: attributes, slots, items, or what its class says of itself."""
    kind = type(value)
    found = _reduced(value)
    if isinstance(found, str):
        yield from _by_name(walk, value, found)
        return
    yield from walk.parts(kind)
    given: list[Any] = [*found, *[None] * (LONGEST - len(found))]
    make, arguments, state, items, pairs, setter = given
    yield from walk.all(make, tuple(arguments))
    yield from _state(walk, kind, state)
    yield from walk.all(list(items or ()), list(pairs or ()), setter)
    if not is_installed_class(kind) and is_installed_class(_pickles_it(kind)):
        # A class of the user's below one that pickles itself, and may know nothing of the attributes.
        yield from _state(walk, kind, getattr(value, "__dict__", None))


def of_module(walk: Walk, value: nn.Module) -> Iterator[bytes]:
    """Its class and all its attributes; hooks without their numbers, which count through the process."""
    if isinstance(value, torch.jit.ScriptModule):
        raise unknown(value)
    yield from walk.parts(type(value))
    state = {
        name: list(held.values()) if "hooks" in name and isinstance(held, dict) else held
        for name, held in vars(value).items()
    }
    yield from _state(walk, type(value), state)


def _reduced(value: Any) -> str | tuple[Any, ...]:
    """What pickling asks an object for."""
    special = copyreg.dispatch_table.get(type(value))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: str | tuple[Any, ...] = value.__reduce_ex__(4) if special is None else special(value)
    except Exception as error:
        raise unknown(value) from error
    return found


def _by_name(walk: Walk, value: Any, name: str) -> Iterator[bytes]:
    """Something that its module holds under its name."""
    module = pickle.whichmodule(value, name)  # type: ignore[attr-defined]
    if resolved(sys.modules.get(module), name) is not value:
        raise unknown(value)
    yield f"{module} {name}".encode()
    if not is_installed(module):
        yield from walk.parts(type(value))


def _state(walk: Walk, kind: type, state: Any) -> Iterator[bytes]:
    """Without what a ``cached_property`` has computed from the rest."""
    if type(state) is tuple and len(state) == 2 and all(type(each) in (dict, type(None)) for each in state):
        yield from _state(walk, kind, state[0])
        yield from _state(walk, kind, state[1])
    elif type(state) is dict:
        own = {name: held for name, held in state.items() if not _is_computed(kind, name)}
        yield from walk.parts(own)
    else:
        yield from walk.parts(state)


def _is_computed(kind: type, name: Any) -> bool:
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    return owner is not None and isinstance(vars(owner)[name], functools.cached_property)


def _pickles_it(kind: type) -> type:
    """The class that says how objects of this kind are pickled; where none does, by attributes and slots, the kind."""
    names = ("__reduce__", "__reduce_ex__", "__getstate__")
    owner = next(base for base in kind.__mro__ if any(name in vars(base) for name in names))
    return kind if owner is object else owner
