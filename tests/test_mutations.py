"""The changes of `benchmarks.mutations`: valid, in one place, the same for the same seed."""

from __future__ import annotations

import ast
import io
import tokenize
from itertools import takewhile
from pathlib import Path

import pytest
from benchmarks.mutations import changes, rooms, sample

ROOT = Path(__file__).parent.parent
SOURCE = '''"""A docstring: 1 + 1 == 2."""
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    ONE = 1


@cache(True)
def f(x: Literal[1], λ: float = 0) -> Literal[2]:
    """Another, not this."""
    if not x and (λ) is not None or x not in (λ, "1 + 1"):
        raise ValueError(f"{x + 1} and {min(x)}" + "not")
    x += max(-x, λ)
    return x * True
'''


def tokens(source: str) -> list[str]:
    return [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline)]


def shared(left: list[str], right: list[str]) -> int:
    """How many first tokens they have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def test_what_is_changed_and_what_is_left():
    found = changes(Path("f.py"), SOURCE)
    assert [(change.before.strip(), change.after) for change in found] == [
        *(("0", "1"), ("not", ""), ("and", "or"), ("is not", "is"), ("or", "and"), ("not in", "in")),
        *(("+", "-"), ("max", "min"), ("-", ""), ("*", "/"), ("True", "False")),
    ]
    assert found[1].lines(SOURCE)[1] == 'if x and (λ) is not None or x not in (λ, "1 + 1"):'


@pytest.mark.parametrize("room", rooms(ROOT / "src" / "upweight"))
def test_every_change_is_valid_and_in_one_place(room):
    for _, change in sample(ROOT, 20, 0, room):
        source = (ROOT / change.path).read_text(encoding="utf-8")
        changed = change(source)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
        before, after = tokens(source), tokens(changed)
        same = shared(before, after)
        same += shared(before[same:][::-1], after[same:][::-1])
        assert len(before) - same <= 2
        assert len(after) - same <= 2
        before, after = change.lines(source)
        assert before != after


def test_the_seed_decides_and_rooms_take_turns():
    chosen = sample(ROOT, 60, 0)
    assert chosen == sample(ROOT, 60, 0)
    assert chosen[:40] == sample(ROOT, 40, 0)
    assert chosen != sample(ROOT, 60, 1)
    assert len(set(chosen)) == 60
    drawn = [room for room, _ in chosen]
    assert {drawn.count(room) for room in set(drawn)} <= {1, 2, 3}
