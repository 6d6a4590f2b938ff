"""Every public name says what it is, and its docstring speaks of arguments and fields that there are."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest

import upweight as uw

HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def public() -> Iterator[tuple[str, Any]]:
    rooms = [getattr(uw, name) for name in uw.__all__]
    for module in [uw, *(room for room in rooms if isinstance(room, ModuleType))]:
        for name in getattr(module, "__all__", None) or defined(module):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value


def defined(module: ModuleType) -> list[str]:
    """Names without ``_`` that a module itself defines, for one that has no ``__all__``."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def methods() -> Iterator[tuple[str, FunctionType]]:
    """Public methods and properties of the public classes, inherited ones of this package too, each once."""
    seen = set()
    for kind in filter(inspect.isclass, PUBLIC.values()):
        for base in kind.__mro__:
            if not base.__module__.startswith("upweight."):
                continue
            for name, value in vars(base).items():
                method = function_of(value)
                if not name.startswith("_") and method is not None and method not in seen:
                    seen.add(method)
                    yield f"{base.__module__}.{base.__name__}.{name}", method


def function_of(member: Any) -> FunctionType | None:
    """What a method, property, class or static method runs, without its decorators."""
    if isinstance(member, property):
        member = member.fget
    found = inspect.unwrap(getattr(member, "func", getattr(member, "__func__", member)))
    return found if inspect.isfunction(found) else None


def arguments(value: Any) -> list[str]:
    """What a function or class takes by name; errors and warnings that take a message alone take nothing so."""
    if inspect.isclass(value) and issubclass(value, Exception) and not inspect.isfunction(value.__init__):
        return []
    return [
        each.name
        for each in inspect.signature(value).parameters.values()
        if not each.name.startswith("_") and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]


PUBLIC = dict(public())
METHODS = dict(methods())


def sections(words: str) -> dict[str, str]:
    parts = HEADING.split(inspect.cleandoc(words))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def told(section: str) -> set[str]:
    """Names that stand at the margin of a section."""
    heads = [line for line in section.splitlines() if re.match(r"[A-Za-z_*]", line)]
    return {name.strip(" *") for head in heads for name in head.split(":")[0].split(",") if name.strip().isidentifier()}


@pytest.mark.parametrize("name", PUBLIC)
def test_it_has_a_docstring_of_its_own_that_ends_in_a_sentence(name: str) -> None:
    words = PUBLIC[name].__dict__.get("__doc__") if inspect.isclass(PUBLIC[name]) else PUBLIC[name].__doc__
    assert words, name
    assert not words.startswith(f"{PUBLIC[name].__name__}("), "a dataclass's own signature is no docstring"
    assert inspect.cleandoc(words).split("\n\n")[0].rstrip()[-1] in ".:)…?", words


@pytest.mark.parametrize("name", PUBLIC)
def test_the_arguments_it_tells_of_are_those_it_takes(name: str) -> None:
    value = PUBLIC[name]
    parts = sections(value.__doc__ or "")
    if "Parameters" in parts:
        given = told(parts["Parameters"])
        taken = set(inspect.signature(value).parameters)
        assert given <= taken | {"options"}, given - taken


@pytest.mark.parametrize("name", PUBLIC)
def test_it_tells_of_every_argument(name: str) -> None:
    words = PUBLIC[name].__doc__ or ""
    assert not [each for each in arguments(PUBLIC[name]) if not re.search(rf"\b{re.escape(each)}\b", words)], words


@pytest.mark.parametrize("name", PUBLIC)
def test_what_refuses_says_so(name: str) -> None:
    """A function that raises an InputError itself tells when."""
    value = PUBLIC[name]
    if inspect.isfunction(value) and "raise InputError" in inspect.getsource(inspect.unwrap(value)):
        assert "Raises" in sections(value.__doc__ or ""), name


def test_methods_that_refuse_say_so() -> None:
    """A method or property that raises an InputError itself tells when."""
    silent = [
        name
        for name, method in METHODS.items()
        if "raise InputError" in inspect.getsource(method) and "Raises" not in sections(method.__doc__ or "")
    ]
    assert not silent, silent


def test_rooms_without_a_list_of_their_names_are_looked_at_too() -> None:
    assert {"upweight.measurements.Margin", "upweight.spans.words"} <= PUBLIC.keys()
    assert "upweight.measurements.CrossEntropy" not in PUBLIC, "it is imported there"
