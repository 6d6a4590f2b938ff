"""How long a step is to be: multiples of two of the computed one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

LONGEST, SHORTEST = 2.0**10, 2.0**-6
SHORTENED, LENGTHENED = 4.0, 0.5
"""What δ is multiplied by after a step that was shortened, or lengthened."""


def best_length(score: Callable[[float], float]) -> float:
    """The length whose score is highest, by doubling while that gains, or else halving; 0 if none beats standing still.

    A walk from 1: it stops at the first multiple that is no better than the one before.
    """
    score = cache(score)
    length = 1.0
    if score(2.0) > score(1.0) > score(0.0):
        while length < LONGEST and score(2 * length) > score(length):
            length *= 2
        return length
    while length > SHORTEST and (score(length / 2) > score(length) or not score(length) > score(0.0)):
        length /= 2
    return length if score(length) > score(0.0) else 0.0
