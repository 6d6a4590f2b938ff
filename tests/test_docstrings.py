"""Every public name says what it is, and its docstring speaks of arguments and fields that there are."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import upweight as uw

HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def public() -> Iterator[tuple[str, Any]]:
    rooms = [getattr(uw, name) for name in uw.__all__]
    for module in [uw, *(room for room in rooms if isinstance(room, ModuleType))]:
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value


PUBLIC = dict(public())


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
def test_what_refuses_says_so(name: str) -> None:
    """A function that raises an InputError itself tells when."""
    value = PUBLIC[name]
    if inspect.isfunction(value) and "raise InputError" in inspect.getsource(inspect.unwrap(value)):
        assert "Raises" in sections(value.__doc__ or ""), name
