"""A training function by what it does: its code and the values it uses, so that a changed one is told from the old."""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
CONTENT = (types.FunctionType, list, tuple, dict, *PLAIN)
"""What counts of a class's own names."""
PLACE = ("__firstlineno__", "__static_attributes__", "__module__", "__doc__")
"""Of a class's own names, those that say where it stands and not what it does."""


def fingerprint(function: Any) -> str:
    """Sixteen hexadecimal digits, equal for functions of the same code and values, in every process.

    Code is what Python compiles, so comments and line numbers don't count, and another Python counts as another
    function. Values are defaults, those of ``functools.partial``, of an enclosing function and of the module's own
    names that the function mentions, functions and classes among them: numbers, text, arrays, tensors, tables,
    modules and containers of these by content, as they are at the call: keep a log of what was trained in a file, not
    in a list. Installed packages, and objects of any other kind, count by name alone.
    """
    digest = hashlib.sha256()
    for part in _parts(function, {}):
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _parts(value: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """Everything that makes a value what it is; ``seen`` keeps it alive, so that no number is used twice."""
    if isinstance(value, PLAIN):
        yield f"{type(value).__name__} {value!r}".encode()
        return
    if id(value) in seen:
        yield b"again"
        return
    seen[id(value)] = value
    if isinstance(value, Tensor | np.ndarray | np.generic | pd.DataFrame | pd.Series | pd.Index):
        yield from _numbers(value)
    elif isinstance(value, Mapping):
        yield b"mapping"
        for key in sorted(value, key=repr):
            yield from _parts(key, seen)
            yield from _parts(value[key], seen)
    elif isinstance(value, list | tuple | range):
        yield f"{type(value).__name__} of {len(value)}".encode()
        for item in value:
            yield from _parts(item, seen)
    elif isinstance(value, set | frozenset):
        yield b"set"
        yield from sorted(b" ".join(_parts(item, seen)) for item in value)
    elif isinstance(value, functools.partial):
        yield from _parts([value.func, value.args, value.keywords], seen)
    elif isinstance(value, types.MethodType):
        yield from _parts([value.__func__, value.__self__], seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, types.ModuleType):
        yield value.__name__.encode()
        if not _installed(value.__name__):
            yield Path(str(value.__file__)).read_bytes()
    elif isinstance(value, type):
        yield from _class(value, seen)
    elif isinstance(value, nn.Module):
        yield from _parts(type(value), seen)
        yield from _parts(dict(value.state_dict()), seen)
    else:
        yield from _parts(type(value), seen)
        if isinstance(value, Dataset) or not _installed(type(value).__module__):
            yield from _parts(getattr(value, "__dict__", {}), seen)


def _numbers(value: Any) -> Iterator[bytes]:
    if isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        yield repr(list(value.columns) if isinstance(value, pd.DataFrame) else value.name).encode()
        yield pd.util.hash_pandas_object(value).to_numpy().tobytes()
    elif isinstance(value, Tensor):
        yield f"tensor {value.dtype} {tuple(value.shape)}".encode()
        dense = value.detach() if value.layout == torch.strided else value.detach().to_dense()
        # As bytes, since NumPy doesn't know every precision.
        yield dense.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    else:
        array = np.asarray(value)
        yield f"array {array.dtype} {array.shape}".encode()
        yield repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()


def _function(function: types.FunctionType, seen: dict[int, Any]) -> Iterator[bytes]:
    yield f"function {function.__qualname__}".encode()
    if _installed(function.__module__):
        yield str(function.__module__).encode()
        return
    yield from _code(function.__code__, seen)
    yield from _parts([function.__defaults__, function.__kwdefaults__], seen)
    for cell in function.__closure__ or ():
        try:
            yield from _parts(cell.cell_contents, seen)
        except ValueError:
            yield b"empty"
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield name.encode()
            yield from _parts(function.__globals__[name], seen)


def _code(code: types.CodeType, seen: dict[int, Any]) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_argcount, code.co_kwonlyargcount, code.co_names, code.co_varnames, code.co_freevars)).encode()
    for constant in code.co_consts:
        yield from _code(constant, seen) if isinstance(constant, types.CodeType) else _parts(constant, seen)


def _names(code: types.CodeType) -> set[str]:
    """Names that the code, or code within it, may look up in its module."""
    within = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, within))


def _class(kind: type, seen: dict[int, Any]) -> Iterator[bytes]:
    yield f"class {kind.__module__} {kind.__qualname__}".encode()
    if _installed(kind.__module__):
        return
    yield from _parts(kind.__bases__, seen)
    for name, item in sorted(vars(kind).items()):
        inner = item.__func__ if isinstance(item, staticmethod | classmethod) else item
        if isinstance(inner, CONTENT) and name not in PLACE:
            yield name.encode()
            yield from _parts(inner, seen)


@functools.cache
def _installed(module: str | None) -> bool:
    """Whether a module came with Python or with a package, and so changes with its version only."""
    found = sys.modules.get(module or "")
    file = getattr(found, "__file__", None)
    if module == "__main__" or (module or "").split(".")[0] in ("upweight", "torch"):
        return module != "__main__"
    if file is None:
        return module in sys.builtin_module_names or module is None
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(Path(file).is_relative_to(folder) for folder in own if folder)
