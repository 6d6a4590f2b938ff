"""The checks that all other tests run under: what they refuse, and that each function has those that it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError
from torch import Tensor, ones

import typechecker
from upweight.linalg.eigh import eigh

if TYPE_CHECKING:
    from no_such_module import Nothing  # type: ignore[import-not-found]

Rows = Float[np.ndarray, " n"]


def checked(function: Any) -> Any:
    return typechecker.checked(function, typechecker=typechecker.check)


@checked
def scaled(values: Float[Tensor, "n p"], by: Float[Tensor, " n"], times: float = 1) -> Float[Tensor, "n p"]:
    return times * by[:, None] * values


@checked
def joined(first: Rows, second: Rows) -> float:
    return float((first * second).sum())


@checked
def told(words: list[str], *, count: int = 2) -> str:
    return words if count > 2 else " ".join(words)  # type: ignore[return-value]


@checked
def counted(until: int) -> Iterator[int]:
    yield from range(until)


@checked
def odd(of: Nothing, number: int) -> int:
    return number


@checked
@dataclasses.dataclass
class Pair:
    name: str
    values: Float[Tensor, "a b"]


def test_right_calls_pass() -> None:
    assert scaled(ones(2, 3), ones(2)).shape == (2, 3)
    assert joined(np.ones(2), np.ones(2)) == 2
    assert told(["a", "b"], count=1) == "a b"
    assert list(counted(2)) == [0, 1]
    assert odd(object(), 3) == 3
    assert Pair("a", ones(1, 2)).name == "a"


@pytest.mark.parametrize(
    "call",
    [
        lambda: scaled(ones(2, 3), ones(3)),
        lambda: scaled(ones(2, 3), [1.0, 2.0]),
        lambda: scaled(ones(2, 3), ones(2), "1"),
        lambda: joined(np.ones(2), np.ones(3)),
        lambda: told("ab"),
        lambda: told(["a"], count=3),
        lambda: told(["a"], count=1.5),
        lambda: list(counted("2")),
        lambda: odd(object(), "3"),
        lambda: Pair(3, ones(1, 2)),  # type: ignore[arg-type]
        lambda: Pair("a", ones(2)),
        lambda: eigh(ones(2, 3)),  # upweight is under the hook
    ],
)
def test_wrong_ones_are_refused(call: Any) -> None:
    with pytest.raises((TypeCheckError, typechecker.Violation)):
        call()


def test_without_checks_functions_are_as_they_are(unchecked: None) -> None:
    assert told("ab", count=3) == "ab"
    assert joined(np.ones(2), np.ones(1)) == 2
