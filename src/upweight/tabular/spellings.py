"""Names of classes that may be one: they differ in capitals, spaces and punctuation alone."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

MOST_SHOWN = 3


def near_spellings(names: Sequence[str], counts: Sequence[int]) -> tuple[str, ...]:
    """A sentence for every group of names that are the same but for how they are written."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name, count in zip(names, counts, strict=True):
        alike[_plain(name)].append(f"{name!r} ({count:,})")
    return tuple(
        f"classes {', '.join(found[:-1])} and {found[-1]} differ only in how they are written, and are kept apart; "
        "write them alike if they are one"
        for plain, found in alike.items()
        if len(found) > 1 and plain
    )


def _plain(name: str) -> str:
    """Small letters and digits, whatever stands between them; a sign before a number counts."""
    folded = unicodedata.normalize("NFKC", name).casefold().strip()
    letters = "".join(letter for letter in folded if letter.isalnum())
    marks = "" if any(letter.isalpha() for letter in letters) else "".join(folded.split())
    return marks or letters
