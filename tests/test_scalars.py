"""Bounds of single arguments, to the number."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from upweight import scalars
from upweight.errors import InputError


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({"least": 0}, [0, 0.5], [-1e-9]),
        ({"above": 0}, [1e-9, 7], [0, -1]),
        ({"most": 1}, [1, -5], [1.001]),
        ({"below": 1}, [0.999, -5], [1, 2]),
        ({"above": 0, "below": 1}, [0.5], [0, 1]),
        ({}, [0, -1e300], [math.nan, math.inf, 10**400, True, "1", None]),
    ],
)
def test_numbers_within_their_bounds(bounds: dict[str, float], inside: list[Any], outside: list[Any]) -> None:
    for value in inside:
        assert scalars.number("x", value, **bounds) == value
    for value in outside:
        with pytest.raises(InputError, match="x: give a finite number"):
            scalars.number("x", value, **bounds)


@pytest.mark.parametrize(("least", "most"), [(1, None), (0, 5)])
def test_whole_numbers_within_their_bounds(least: int, most: int | None) -> None:
    last = 2**63 - 1 if most is None else most
    for value in (least, last):
        assert scalars.whole("x", value, least, most) == value
    for value in (least - 1, last + 1, 2.0, True, "2"):
        with pytest.raises(InputError, match="x: give a whole number"):
            scalars.whole("x", value, least, most)


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (10**5000, "a whole number of more than 60 digits"),
        (Silent(), "a Silent"),
        ("x" * 100, "'" + "x" * 59 + "…"),
        ([0] * 100, "a list"),
        (torch.tensor(1, device="meta"), "tensor"),
    ],
    ids=["long number", "silent", "long text", "list", "meta"],
)
def test_whatever_a_value_is_the_message_is_short(value: Any, said: str) -> None:
    for check in (scalars.number, scalars.whole, scalars.flag, lambda name, it: scalars.one_of(name, it, ("a", "b"))):
        with pytest.raises(InputError, match=f"^x: .*got {re.escape(said)}") as error:
            check("x", value)
        assert len(str(error.value)) < 150
