"""Names of examples and queries: one each, no two alike."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from upweight.errors import InputError

LINE = "line"
"""The column of tables that holds on which line of its file a row begins."""


def distinct(name: str, given: Any, count: int, each: str) -> np.ndarray:
    """Names as an array of ``count``, whatever kinds they are of.

    Raises
    ------
    InputError
        If there are more or fewer, or one stands twice.
    """
    try:
        values = np.asarray(given)
        if values.dtype.kind == "U" and isinstance(given, list | tuple) and not all(isinstance(g, str) for g in given):
            values = np.asarray(given, dtype=object)  # 1 beside "a" is not "1"
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: give {count} names, one per {each} ({error})") from error
    if values.shape != (count,):
        raise InputError(f"{name}: need {count}, one per {each}; got shape {values.shape}")
    twice = repeated(values)
    if twice is not None:
        raise InputError(f"{name}: must be unique; {twice}")
    return values


def repeated(values: np.ndarray) -> str | None:
    """The name that stands most often, in words; None where each stands once."""
    listed = values.tolist()
    if values.dtype.kind in "fcO":  # a NaN is unequal to itself
        listed = [math.nan if isinstance(value, float) and value != value else value for value in listed]
    try:
        if len(set(listed)) == len(listed):
            return None
        value, times = Counter(listed).most_common(1)[0]
    except TypeError:
        odd = next((value for value in listed if getattr(value, "__hash__", None) is None), None)
        return f"{odd!r} is a {type(odd).__name__}, which can't be a name; give strings or numbers"
    return f"{value!r} stands {times} times"
