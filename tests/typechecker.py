"""The run-time checks that conftest puts around every function of upweight; this must not import upweight.

jaxtyping's import hook decorates all functions alike. What its decorator does at each call (names the arguments, keeps
their sizes by name) is needed only where a signature has shapes; the others, which are most, go by beartype alone.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial, wraps
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeCallHintViolation as Violation

__all__ = ["Violation", "check", "checked", "install"]

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do for a float
with_shapes = jaxtyping.jaxtyped


def install(rooms: list[str]) -> None:
    """Check the functions of these modules, and of all inside them, from when they are imported."""
    jaxtyping.jaxtyped = checked  # type: ignore[assignment]
    jaxtyping.install_import_hook(rooms, "typechecker.check")


def checked(made: Any = None, *, typechecker: Any) -> Any:
    """A function, or a dataclass's making, whose arguments and result are checked; made at its first call."""
    if made is None:
        return partial(checked, typechecker=typechecker)
    if inspect.isclass(made):
        begin = made.__init__  # type: ignore[misc]
        if dataclasses.is_dataclass(made) and not _is_checked(begin):
            setattr(made, "__init__", checked(begin, typechecker=typechecker))  # noqa: B010
        return made
    checking: Callable[..., Any] | None = None

    @wraps(made)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checking
        if jaxtyping.config.jaxtyping_disable:
            return made(*args, **kwargs)
        checking = checking or _checking(made, typechecker)
        return checking(*args, **kwargs)

    return call


def _is_checked(function: Any) -> bool:
    return getattr(function, "__globals__", {}).get("__name__") == __name__


def _checking(function: FunctionType, typechecker: Any) -> Callable[..., Any]:
    hints = {name: _resolved(name, hint, function) for name, hint in function.__annotations__.items()}
    if any(map(has_shapes, hints.values())):
        return with_shapes(function, typechecker=typechecker)
    same = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    same.__kwdefaults__, same.__annotations__, same.__qualname__ = function.__kwdefaults__, hints, function.__qualname__
    same.__module__ = function.__module__
    return typechecker(same)


def _resolved(name: str, hint: Any, function: FunctionType) -> Any:
    """An annotation's object; `Any` where its names are imported for type checkers alone."""

    def bearer() -> None: ...

    bearer.__annotations__ = {name: hint}
    try:
        return get_type_hints(bearer, function.__globals__, include_extras=True)[name]
    except Exception:
        return Any


def has_shapes(hint: Any) -> bool:
    """Whether a type names the sizes of an array, itself or in its arguments."""
    if isinstance(hint, list):  # the arguments of a Callable
        return any(map(has_shapes, hint))
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(has_shapes, get_args(hint)))
