"""Columns of text, and of more levels than inputs could stand for: numbers that skrub makes of their letters."""

from __future__ import annotations

import re
from collections import Counter
from importlib.util import find_spec
from typing import Any

import pandas as pd

from upweight.optional import imported

COMPONENTS = 30
"""Numbers that a column of text becomes."""
WORD = re.compile(r"[^\W\d_]{2,}")
RECURS = 5
"""Rows that a word stands in, to be one that says something of others."""
NEARLY_ALL = 0.9
FEWEST_WORDS = 10
"""Such words that tell text from names and identifiers."""
LOOKED_AT = 20_000
"""Rows that are looked through."""


def is_available() -> bool:
    """Whether skrub is installed, which reads text."""
    return find_spec("skrub") is not None


def is_text(column: pd.Series) -> bool:
    """Whether its words recur from row to row, as they do in text and don't in identifiers."""
    some = column.dropna().iloc[:LOOKED_AT].astype(str)
    rows = Counter(word for cell in some for word in set(WORD.findall(cell.lower())))
    return sum(RECURS <= count <= NEARLY_ALL * len(some) for count in rows.values()) >= FEWEST_WORDS


def encoder() -> Any:
    """Letters of three and four in a row by their weight, in their `COMPONENTS` main directions."""
    with imported("columns", "a column of text"):
        from skrub import StringEncoder

    return StringEncoder(n_components=COMPONENTS, random_state=0)
