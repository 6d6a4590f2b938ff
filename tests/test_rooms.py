"""Which room may know which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import upweight

SOURCE = Path(upweight.__file__).parent


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted((SOURCE / "linalg").glob("**/*.py")), ids=lambda path: path.stem)
def test_the_algorithms_of_linear_algebra_know_nothing_of_the_package(path: Path) -> None:
    ours = [name for name in imported(path) if name.startswith(("upweight", "."))]
    assert all(name.startswith("upweight.linalg.") for name in ours), ours
