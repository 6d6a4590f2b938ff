"""Examples as a page shows them: names, what the model says of them, columns of the user's own, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from upweight.errors import InputError
from upweight.names import LINE
from upweight.report.numbers import all_digits, are_years, exact, readable

LABEL, PREDICTION, SUGGESTED = "label", "prediction", "suggested"
VALUE, RESIDUAL = "value", "residual"
"""Of a quantity: what stands for a label, and how far that is from the prediction."""
LOSS, WRONG, SUSPICION, SELF = "loss", "wrong", "suspicion", "self-influence"
X, Y = "x", "y"
OF = "training example"
"""Of a query that is one of the training examples: its position there."""
FIGURES = 4
"""Digits of a number that is reckoned."""
LONG = 40
"""Letters of a column's entries, on average, from which it is text to read rather than cells to compare."""
LOOKED_AT = 200
"""Entries that are looked at for that."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Training examples, or queries.

    Attributes
    ----------
    ids
        Their names, ``[examples]``.
    facts
        What is known of them, by the names of this module: ``label``, ``prediction``, ``loss``, ``wrong``,
        ``suggested`` (what the model would say without the example), ``suspicion``, ``self-influence``, and ``x``,
        ``y`` on the map; of a quantity ``value`` and ``residual`` in place of ``label`` and ``wrong``, all in its own
        unit; of rows of a file their ``line``. Each is ``[examples]``, and each may be missing.
    own
        The user's columns, ``[examples]`` each.
    pictures
        Images, each as a file's bytes; None where there are none.
    """

    ids: np.ndarray
    facts: dict[str, np.ndarray] = field(default_factory=dict)
    own: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def named(self) -> bool:
        """Whether ids are names of their own, rather than positions."""
        return not (self.ids.dtype.kind in "iu" and np.array_equal(self.ids, np.arange(len(self.ids))))

    @property
    def texts(self) -> list[str]:
        """The user's columns that are read rather than compared."""
        return [name for name, values in self.own.items() if is_text(values)]

    @cached_property
    def years(self) -> frozenset[str]:
        """The user's columns whose numbers are years, which are written without a comma."""
        return frozenset(name for name, values in self.own.items() if are_years(values))

    @property
    def on_map(self) -> bool:
        """Whether each has a place."""
        return X in self.facts and Y in self.facts

    @property
    def answer(self) -> str:
        """The name of what is decided about: ``label``, or ``value`` of a quantity."""
        return VALUE if VALUE in self.facts else LABEL

    @property
    def has_answers(self) -> bool:
        """Whether labels or values are known."""
        return self.answer in self.facts

    def said(self, name: str, position: int) -> str | None:
        """A fact in words, as a decision has it: of a number all its digits; None where it isn't known."""
        value = self.fact(name, position)
        return None if value is None else all_digits(value) if isinstance(value, float) else str(value)

    def shown(self, name: str, position: int) -> str | None:
        """The same for reading: of a value all its digits, of other numbers a few."""
        value = self.fact(name, position)
        if isinstance(value, float):
            return exact(value) if name in (VALUE, SUGGESTED) else readable(value, FIGURES)
        return self.said(name, position)

    def fact(self, name: str, position: int) -> Any:
        """One of `facts` as a value of Python's; None where it isn't known."""
        return plain(self.facts[name][position]) if name in self.facts else None

    def values(self, position: int) -> dict[str, Any]:
        """The user's columns of one example."""
        return {name: plain(values[position]) for name, values in self.own.items()}

    def caption(self, position: int) -> str:
        """Its name, and its line in the file, or its position where that is another."""
        name, line = str(plain(self.ids[position])), self.fact(LINE, position)
        if line is not None:
            return f"{name} (line {line})"
        return f"{name} (position {position:,})" if self.named else name

    def suggestion(self, position: int) -> str | None:
        """The label or value that the model would give it, where that isn't the one that it has."""
        given, suggested = self.said(self.answer, position), self.said(SUGGESTED, position)
        if suggested is None:
            suggested = self.said(PREDICTION, position)
        return None if suggested == given else suggested

    def checked(self, answer: str, names: Sequence[str] | None) -> str:
        """A label or value that an example may be given, as a decision has it.

        Raises
        ------
        InputError
            If it is no label of these data, or no finite number where they hold a quantity.
        """
        if self.answer == VALUE:
            try:
                value = float(answer)
            except ValueError:
                value = np.nan
            if not np.isfinite(value):
                raise InputError(f"relabel: {answer!r} is no value of a quantity; give a finite number such as 12.5")
            return all_digits(value)
        known = self.classes(names)
        if answer not in known:
            raise InputError(f"relabel: {answer!r} is no label of these data; give one of {', '.join(known[:20])}")
        return answer

    def classes(self, names: Sequence[str] | None) -> list[str]:
        """The labels that there are to choose from."""
        if names:
            return list(names)
        return [] if LABEL not in self.facts else [str(each) for each in np.unique(self.facts[LABEL]).tolist()]


def is_text(values: np.ndarray) -> bool:
    """Whether entries are long."""
    if values.dtype.kind not in "UO" or not len(values):
        return False
    some = values[np.linspace(0, len(values) - 1, min(len(values), LOOKED_AT)).astype(int)]
    return sum(len(str(each)) for each in some.tolist()) / len(some) > LONG


def _time(item: np.datetime64 | np.timedelta64) -> str:
    """As people write it: a day without its midnight, a time without zeros behind its seconds."""
    day, _, time = str(item).partition("T")
    time = time.rstrip("0").rstrip(".") if "." in time else time
    return day if time in ("", "00:00:00", "00:00") else f"{day} {time}"


def plain(value: Any) -> Any:
    """A value as JSON knows it: NaN, infinity and missing times as None, times as text."""
    item = value.item() if hasattr(value, "item") and not isinstance(value, np.datetime64 | np.timedelta64) else value
    if isinstance(item, float) and not np.isfinite(item):
        return None
    if isinstance(item, np.datetime64 | np.timedelta64):
        return None if np.isnat(item) else _time(item)
    return item
