"""Functions, classes and modules: the user's by their code, those of installed packages by name."""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from upweight.retraining.fingerprint.walk import Walk

OF_THE_MACHINERY = (
    "__dict__",
    "__weakref__",
    "__module__",
    "__doc__",
    "__firstlineno__",
    "__static_attributes__",
    "_abc_impl",
)
"""Of a class's own names, those that say where it stands, or are made by Python."""
CODE = (types.FunctionType, staticmethod, classmethod, property, functools.partial, functools.partialmethod)
LOOKING_UP = ("LOAD_GLOBAL", "LOAD_NAME")
FLAGS = 0xFFFF
"""Of a code's flags, those that say what it does: above them stand the imports from ``__future__``."""
HEAP_TYPE = 1 << 9
"""The flag of classes that are made while a program runs."""


def function(walk: Walk, value: types.FunctionType) -> Iterator[bytes]:
    """Code, defaults, attributes, and what it takes from outside; by name alone if a package brings it by that name."""
    yield f"function {value.__qualname__}".encode()
    installed = _is_installed_file(value.__code__.co_filename)
    if installed and resolved(sys.modules.get(value.__module__ or ""), value.__qualname__) is value:
        yield str(value.__module__).encode()
        return
    yield from compiled(walk, value.__code__)
    yield from walk.all(value.__defaults__, value.__kwdefaults__)
    for name, closed in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        yield from walk.named(name, closed)
    if not installed:
        yield from _globals(walk, value)
    yield from walk.parts(vars(value))


def _globals(walk: Walk, value: types.FunctionType) -> Iterator[bytes]:
    names = _names(value.__code__)
    for name in sorted(_looked_up(value.__code__) & value.__globals__.keys()):
        held = value.__globals__[name]
        yield from walk.named(name, held)
        if isinstance(held, types.ModuleType):
            yield from _mentioned(walk, held, names, {id(held)})


def _mentioned(walk: Walk, holder: types.ModuleType, names: set[str], done: set[int]) -> Iterator[bytes]:
    """What a module of the user's holds under the names that the code mentions: it may have been set since."""
    if is_installed(holder.__name__):
        return
    for name in sorted(names & vars(holder).keys()):
        held = vars(holder)[name]
        yield from walk.named(name, held)
        if isinstance(held, types.ModuleType) and id(held) not in done:
            yield from _mentioned(walk, held, names, done | {id(held)})


def compiled(walk: Walk, value: types.CodeType) -> Iterator[bytes]:
    """What Python runs."""
    yield value.co_code
    yield getattr(value, "co_exceptiontable", b"")
    yield repr((value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags & FLAGS)).encode()
    yield repr((value.co_names, value.co_varnames, value.co_freevars)).encode()
    for constant in value.co_consts:
        yield from compiled(walk, constant) if isinstance(constant, types.CodeType) else walk.parts(constant)


def _names(value: types.CodeType) -> set[str]:
    """Names that the code, or code within it, mentions: of its module, or attributes of whatever object."""
    return set(value.co_names).union(*map(_names, _within(value)))


def _looked_up(value: types.CodeType) -> set[str]:
    """Names that the code, or code within it, looks up in its module."""
    own = {each.argval for each in dis.get_instructions(value) if each.opname in LOOKING_UP}
    return own.union(*map(_looked_up, _within(value)))


def _within(value: types.CodeType) -> list[types.CodeType]:
    return [constant for constant in value.co_consts if isinstance(constant, types.CodeType)]


def cell(walk: Walk, value: types.CellType) -> Iterator[bytes]:
    """A variable of an enclosing function."""
    try:
        held = value.cell_contents
    except ValueError:
        yield b"empty"
        return
    yield from walk.parts(held)


def method(walk: Walk, value: types.MethodType) -> Iterator[bytes]:
    """Function and object."""
    yield from walk.all(value.__func__, value.__self__)


def builtin(walk: Walk, value: types.BuiltinFunctionType) -> Iterator[bytes]:
    """Of a module by name; of an object with that object."""
    yield f"builtin {value.__module__} {value.__qualname__}".encode()
    if not isinstance(value.__self__, types.ModuleType | None):
        yield from walk.parts(value.__self__)


def of_property(walk: Walk, value: property) -> Iterator[bytes]:
    """Its functions."""
    yield b"property"
    yield from walk.all(value.fget, value.fset, value.fdel)


def inner(walk: Walk, value: Any) -> Iterator[bytes]:
    """The function of a static or class method."""
    yield type(value).__name__.encode()
    yield from walk.parts(value.__func__)


def cached(walk: Walk, value: Any) -> Iterator[bytes]:
    """The function behind ``functools.cache``."""
    yield b"cached"
    yield from walk.all(value.__wrapped__, value.cache_parameters())


def descriptor(walk: Walk, value: Any) -> Iterator[bytes]:
    """A slot of a class: its name."""
    yield f"slot {value.__name__}".encode()


def module(walk: Walk, value: types.ModuleType) -> Iterator[bytes]:
    """Its name, and of the user's own the file."""
    yield f"module {value.__name__}".encode()
    file = getattr(value, "__file__", None)
    if not is_installed(value.__name__) and file is not None and Path(file).is_file():
        yield Path(file).read_bytes()


def of_class(walk: Walk, value: type) -> Iterator[bytes]:
    """Its name, and of the user's own, or one made while the program runs, its bases and all that it holds."""
    yield f"class {value.__module__} {value.__qualname__}".encode()
    if is_installed_class(value):
        return
    yield from walk.all(type(value), value.__bases__)
    for name, held in sorted(vars(value).items()):
        is_code = isinstance(held, CODE)
        if name in OF_THE_MACHINERY or isinstance(held, types.GetSetDescriptorType | types.MemberDescriptorType):
            continue
        if not is_code and name.startswith("__") and name.endswith("__"):  # what a decorator noted of the class
            continue
        yield from walk.named(name, held)


def is_installed_class(value: type) -> bool:
    """Whether a class came with Python or with a package, under its own name."""
    if not value.__flags__ & HEAP_TYPE or not isinstance(value.__module__, str):  # of C, or of Cython
        return True
    found = sys.modules.get(value.__module__)
    return is_installed(value.__module__) and resolved(found, value.__qualname__) is value


def resolved(found: types.ModuleType | None, name: str) -> Any:
    """What a module holds under a dotted name, or None."""
    held: Any = found
    for part in name.split("."):
        held = getattr(held, part, None)
    return held


def is_installed(name: str | None) -> bool:
    """Whether a module came with Python or with a package, and so changes with its version only."""
    if name is None or name == "__main__":
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return name in sys.builtin_module_names if file is None else _is_installed_file(file)


@functools.cache
def _is_installed_file(file: str) -> bool:
    if file.startswith("<frozen "):
        return True
    place = Path(file)
    packages = (Path(__file__).parents[2], Path(str(torch.__file__)).parent)
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders = [*packages, *(Path(folder) for folder in own if folder)]
    return bool({"site-packages", "dist-packages"} & set(place.parts)) or any(map(place.is_relative_to, folders))
