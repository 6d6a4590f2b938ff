"""Which training examples are known to be relevant to each query, and where scores put them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from upweight import scalars
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.plots import checks


def rows_of_scores(scores: Any) -> Float[np.ndarray, "queries train"]:
    """Scores in float64, large for helpful examples; those ``[train]`` are one row.

    An attribution says by its quantity which sign is helpful; where it doesn't, large scores come first.

    Raises
    ------
    InputError
        If a score isn't finite, or there are more than two dimensions.
    """
    sign = 1
    if isinstance(scores, Attribution):
        sign, scores = -1 if scores.quantity.helpful_sign < 0 else 1, scores.scores
    given = checks.numbers("scores", scores)
    values = sign * np.atleast_2d(given)
    if given.ndim not in (1, 2):
        raise InputError(f"scores: got shape {given.shape}; give [queries, train]")
    return values


def rows_of_relevant(relevant: Any, shape: tuple[int, int]) -> Bool[np.ndarray, "queries train"]:
    """Booleans ``[queries, train]``, or for each query the positions of its relevant examples, as booleans.

    Raises
    ------
    InputError
        If there aren't as many as there are scores, or a query has no relevant example, or nothing else.
    """
    queries, n = shape
    is_list = isinstance(relevant, Iterable) and not isinstance(relevant, str | bytes)
    given = list(relevant) if is_list and getattr(relevant, "shape", (0,)) != () else []
    if len(given) != queries:
        raise InputError(f"relevant: got {scalars.shown(relevant)}; give one row for each of the {queries} queries")
    found = np.zeros(shape, dtype=bool)
    for number, (row, entry) in enumerate(zip(found, given, strict=True)):
        row[_positions(f"relevant[{number}]", entry, n)] = True
    counts = found.sum(1)
    if (bad := (counts == 0) | (counts == n)).any():
        worst = int(bad.argmax())
        which = "no" if counts[worst] == 0 else "every"
        raise InputError(
            f"relevant: {which} example is relevant to query {worst}, so there is nothing to tell apart; leave it out"
        )
    return found


def _positions(name: str, entry: Any, n: int) -> np.ndarray:
    """Positions, of a mask where it is True."""
    values = checks.array(name, entry) if np.size(entry) else np.zeros(0, dtype=int)
    if values.dtype == bool and values.shape == (n,):
        return np.flatnonzero(values)
    if values.ndim != 1 or values.dtype.kind not in "ui" or (values.size and not 0 <= values.min() <= values.max() < n):
        raise InputError(
            f"{name}: give {n} times True or False, one for each score, or positions from 0 to {n - 1}; got "
            f"{scalars.shown(entry)}"
        )
    return values


def groups(scores: Float[np.ndarray, " train"], relevant: Bool[np.ndarray, " train"]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of examples, and of relevant ones, that share each score, the highest first."""
    _, group = np.unique(-scores, return_inverse=True)
    return np.bincount(group), np.bincount(group, relevant).astype(int)
