"""Which training examples are meant: positions, a mask, or the objective's own ids."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from upweight.arrays import as_tensor
from upweight.errors import InputError

SEARCHED = 20_000
"""Ids among which near ones are looked for."""


def _shown(value: Any) -> str:
    """A value in few letters, where it has any: a whole number may be too long for Python to write."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return f"a {type(value).__name__}"


def read(indices: Any, ids: np.ndarray, argument: str = "indices") -> Int[Tensor, " k"]:
    """Positions of training examples, checked.

    Parameters
    ----------
    indices
        Whole numbers, which are always positions; a mask of booleans; or ids, where those are no whole numbers
        (``["doc-0001"]``).
    argument
        What they are called where they are given.

    Raises
    ------
    InputError
        If one is out of range or unknown, or repeated, or there are none.
    """
    n, names = len(ids), _names(indices, argument)
    given = indices if names is None else _looked_up(names, ids, argument)
    try:
        index = as_tensor(given, argument)
    except InputError as error:
        if error.__cause__ is None:  # an array, but without all of its numbers
            raise
        index = torch.empty(0)
    if index.dim() == 2 and index.shape[1] == 1:
        index = index[:, 0]  # as torch.nonzero gives them
    if index.dim() != 1:
        got = f"{_shown(indices)} of {index.dim()} dimensions"
        raise InputError(f"{argument}: give a list of positions, such as [3] or [3, 5]; got {got}")
    if index.dtype == torch.bool:
        if index.shape != (n,):
            raise InputError(f"{argument}: a mask needs one entry per example, {n}; got {tuple(index.shape)}")
        index = index.nonzero().flatten()
    if index.is_floating_point() or index.is_complex() or index.numel() == 0:
        raise InputError(f"{argument}: give at least one whole-number position below n={n}; got {_shown(indices)}")
    index = index.long().cpu()
    if int(index.min()) < 0 or int(index.max()) >= n:
        raise InputError(
            f"{argument}: positions must be in 0 … {n - 1}; got {int(index.min())} … {int(index.max())}"
            + _where_whole(index, ids)
        )
    distinct, counts = index.unique(return_counts=True)
    if len(distinct) != len(index):
        twice, times = distinct[counts > 1][0], int(counts.max())
        named = int(twice) if names is None else repr(ids.tolist()[int(twice)])
        raise InputError(f"{argument}: {named} is named {times} times; name it once, got {_shown(indices)}")
    return index


def _names(indices: Any, argument: str) -> list[Any] | None:
    """The ids in a list of them; None where there are numbers, or no list."""
    if isinstance(indices, str | bytes | Tensor) or not isinstance(indices, Iterable):
        return None
    if isinstance(indices, np.ndarray) and indices.dtype.kind in "biufc":
        return None
    given = list(indices)
    named = [isinstance(value, str) or not (_is_number(value) or hasattr(value, "__len__")) for value in given]
    if not any(named):
        return None
    if not all(named):
        number, name = given[named.index(False)], given[named.index(True)]
        raise InputError(f"{argument}: {number!r} stands among ids such as {name!r}; give positions or ids, not both")
    return given


def _looked_up(names: list[Any], ids: np.ndarray, argument: str) -> list[int]:
    """The position of each id."""
    if ids.dtype.kind in "iu":
        raise InputError(
            f"{argument}: {names[0]!r} is no whole-number position, and the training examples have no ids but whole "
            "numbers; give positions, or Objective(…, ids=…)"
        )
    places = {name: position for position, name in enumerate(ids.tolist())}
    found = []
    for name in names:
        key = name.item() if isinstance(name, np.generic) else name
        try:
            found.append(places[key])
        except (KeyError, TypeError):
            raise InputError(f"{argument}: no training example has the id {key!r}{_near(key, ids)}") from None
    return found


def _near(name: Any, ids: np.ndarray) -> str:
    """Ids like it, if there are any; else the first ones."""
    words = {str(other): other for other in ids[:SEARCHED].tolist()}
    lowered = {word.strip().lower(): word for word in words}
    near = [lowered[word] for word in difflib.get_close_matches(str(name).strip().lower(), lowered, 3, 0.6)]
    if near:
        return f"; there is {', '.join(repr(words[word]) for word in near)}"
    return f"; the first are {', '.join(map(repr, ids[:3].tolist()))}"


def _where_whole(index: Tensor, ids: np.ndarray) -> str:
    """A word on ids that are whole numbers, which are never looked up."""
    wanted = [value for value in (int(index.max()), int(index.min())) if not 0 <= value < len(ids)]
    if ids.dtype.kind not in "iu" or not wanted:
        return ""
    at = np.flatnonzero(ids == wanted[0])
    return f". Whole numbers are positions; the id {wanted[0]} is at position {int(at[0])}" if len(at) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | complex | np.number | np.bool_ | Tensor)
