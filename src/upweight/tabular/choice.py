"""Which columns a user wants, and names that don't exist with those that were meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from upweight.errors import InputError

NEAR = 0.65
"""How alike names are that may be mistaken for each other: twice the letters they share over all their letters."""
FEWEST_LETTERS = 3
"""Letters of a name that may be part of the one that is meant."""


@dataclass(frozen=True)
class Choice:
    """Columns chosen by name: ``only`` these, kept whatever they hold (empty: all), without those in ``drop``."""

    drop: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def check(self, columns: Iterable[str], target: str | None = None) -> None:
        """Refuse names that are no columns, the target, and columns both asked for and dropped.

        Raises
        ------
        InputError
            Naming the option and what was meant.
        """
        known = [str(name) for name in columns if name != target]
        for option, names in (("--drop", self.drop), ("--columns", self.only)):
            for name in names:
                if name == target:
                    raise InputError(f"{option}: {name!r} is the target, which is never a predictor; leave it away")
                if name not in known:
                    raise InputError(f"{option}: the table has no column {name!r}{near_names(name, known)}")
        both = [name for name in self.only if name in self.drop]
        if both:
            raise InputError(f"--drop: {both[0]!r} is given to --columns too; leave one of them away")

    def reason(self, name: str) -> str:
        """Why a column is not wanted; "" where it is."""
        if name in self.drop:
            return "by --drop"
        return "not among --columns" if self.only and name not in self.only else ""


def near_names(name: str, columns: Iterable[str]) -> str:
    """The end of a sentence that says there is no such column: names near it, and the first ones there are."""
    known = [str(each) for each in columns]
    lowered = {each.lower(): each for each in known}
    given = name.lower().strip()
    close = difflib.get_close_matches(given, lowered, n=3, cutoff=NEAR)
    longer = [each for each in lowered if len(given) >= FEWEST_LETTERS and given in each]
    near = [lowered[found] for found in dict.fromkeys([*close, *longer])][:3]
    shown = ", ".join(map(repr, known[:12])) + (" …" if len(known) > 12 else "")
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"{meant} Its columns are {shown}"
