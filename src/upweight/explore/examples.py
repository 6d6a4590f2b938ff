"""Examples as a page shows them: names, what the model says of them, columns of the user's own, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LABEL, PREDICTION, SUGGESTED = "label", "prediction", "suggested"
LOSS, WRONG, SUSPICION, SELF = "loss", "wrong", "suspicion", "self-influence"
X, Y = "x", "y"
OF = "training example"
"""Of a query that is one of the training examples: its position there."""
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
        ``y`` on the map; each ``[examples]``, and each may be missing.
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

    @property
    def on_map(self) -> bool:
        """Whether each has a place."""
        return X in self.facts and Y in self.facts

    def fact(self, name: str, position: int) -> Any:
        """One of `facts` as a value of Python's; None where it isn't known."""
        return plain(self.facts[name][position]) if name in self.facts else None

    def values(self, position: int) -> dict[str, Any]:
        """The user's columns of one example."""
        return {name: plain(values[position]) for name, values in self.own.items()}

    def caption(self, position: int) -> str:
        """Its name, and its position where that is another."""
        name = str(plain(self.ids[position]))
        return f"{name} (position {position:,})" if self.named else name

    def suggestion(self, position: int) -> str | None:
        """The label that the model would give it, where that isn't the one that it has."""
        label, suggested = self.fact(LABEL, position), self.fact(SUGGESTED, position)
        if suggested is None:
            suggested = self.fact(PREDICTION, position)
        return None if suggested is None or str(suggested) == str(label) else str(suggested)

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


def plain(value: Any) -> Any:
    """A value as JSON knows it: NaN, infinity and missing times as None, times as text."""
    item = value.item() if hasattr(value, "item") and not isinstance(value, np.datetime64 | np.timedelta64) else value
    if isinstance(item, float) and not np.isfinite(item):
        return None
    if isinstance(item, np.datetime64 | np.timedelta64):
        return None if np.isnat(item) else str(item)
    return item
