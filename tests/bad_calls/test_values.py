"""Bad calls across the public face: each is refused with the argument's name, the value and what to give instead.

A table an area: an argument, the kind of value it takes, and a call of it. Each is tried with every value that is none
of that kind, so none goes through in silence and none ends deep inside torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from bad_calls import baselines, evaluation, influences, inverses, objectives, retraining, tasks
from bad_calls.case import Row
from upweight.errors import InputError

pytestmark = pytest.mark.usefixtures("unchecked")

KINDS: dict[str, tuple[Any, ...]] = {
    "whole": (2.5, "two", True, math.nan, -3),
    "number": ("big", math.nan, math.inf, True, -1.0),
    "any number": ("big", math.nan, math.inf, True),
    "any whole": (2.5, "two", True),
    "flag": ("yes", 2),
    "choice": ("nope", 3),
    "seed": (1.7, "a", True, -1),
    "positions": (3, 2.5, "first", [[1, 2], [3, 4]], [0.5], [-1], [10_000], [1, 1], []),
}
AREAS = (objectives, influences, inverses, retraining, evaluation, tasks, baselines)
TABLE: list[Row] = [row for area in AREAS for row in area.TABLE]
ROWS = [(call, name, argument, value) for name, argument, kind, call in TABLE for value in KINDS[kind]]


@pytest.mark.parametrize(
    ("call", "argument", "value"),
    [(call, *rest) for call, _, *rest in ROWS],
    ids=[f"{n}({a}={v!r})" for _, n, a, v in ROWS],
)
def test_a_value_of_another_kind_is_refused_by_name(call: Callable[[Any], Any], argument: str, value: Any) -> None:
    with pytest.raises(InputError) as raised:
        call(value)
    words = str(raised.value)
    assert argument in words.split(":")[0], words
    assert any(
        shown in words for shown in (repr(value), str(value), f"{value:g}" if isinstance(value, float) else "…")
    ), words


def test_there_are_enough() -> None:
    assert len(ROWS) > 400
