"""The ordinary run tries some cases of every function."""

from __future__ import annotations

import ast
from pathlib import Path

import thinned


def test_the_first_and_every_kth_after_it_are_kept() -> None:
    cases = [(name, f"{name}{number}") for number in range(7) for name in "abc"]
    left = set(thinned.left_to_the_exhaustive_run(cases, {"a": 3, "b": 2}))
    assert {case for _, case in cases} - left == {
        *("a0", "a3", "a6"),
        *("b0", "b2", "b4", "b6"),
        *map("c{}".format, range(7)),
    }


def test_every_function_of_the_list_is_there() -> None:
    root = Path(__file__).parent.parent
    for name in thinned.listed():
        file, *_, function = name.split("::")
        tree = ast.parse((root / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name
