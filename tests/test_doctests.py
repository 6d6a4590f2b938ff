"""Every example of a docstring gives what stands there."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import upweight

SOURCE = Path(upweight.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("upweight", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), verbose=False)
    assert found.attempted > 0
    assert found.failed == 0
