"""What one person looks at on a page and does there: moving on, deciding. No browser is known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from upweight.errors import InputError
from upweight.explore import view
from upweight.explore.contents import Contents
from upweight.explore.decisions import Decision, What, user
from upweight.explore.evidence import SHOWN, Scored


@dataclass
class Session:
    """What one person looks at.

    Attributes
    ----------
    contents
        Of the store.
    who
        Whose decisions they are.
    query, example
        Positions of those that are looked at.
    token
        Of the query, from 1 on: whose share in the examples is shown; 0: that of all.
    walk
        Training examples that ``j`` and ``k`` lead along, by position; ``step`` is the place among them.
    search
        Words that a list is filtered by.
    evidence
        The most helpful and most harmful training examples of the query, with their scores.
    order
        Positions of a list as it is sorted and filtered now, by ``train`` or ``queries``.
    """

    contents: Contents
    who: str = field(default_factory=user)
    query: int | None = None
    example: int | None = None
    walk: list[int] = field(default_factory=list)
    step: int = -1
    token: int = 0
    search: str = ""
    order: dict[str, np.ndarray] = field(default_factory=dict)
    evidence: list[Scored] = field(default_factory=list)

    def ask(self, query: int) -> None:
        """Look at a query and its most helpful and most harmful training examples.

        Raises
        ------
        InputError
            If there is no such query.
        """
        if not 0 <= query < len(self.contents.display.queries):
            raise InputError(f"query: there is no query {query}")
        self.query, self.example, self.token = query, None, 0
        self.evidence = self.contents.evidence(query, SHOWN)
        self.walk, self.step = list(dict.fromkeys(each.position for each in self.evidence)), -1

    def look(self, position: int, among: Sequence[int] | None = None) -> None:
        """Look at a training example, as one among some, or of the list.

        Raises
        ------
        InputError
            If there is no such example.
        """
        if not 0 <= position < len(self.contents.display.train):
            raise InputError(f"example: there is no training example {position}")
        self.example = position
        if among is not None:
            self.walk = list(among)
        self.step = self.walk.index(position) if position in self.walk else -1

    def move(self, by: int, *, listed: bool = False) -> int | None:
        """The next training example (or the one before); None where there is no other.

        Parameters
        ----------
        listed
            Of the list as it is sorted and filtered now, rather than of the query's evidence.
        """
        if listed or not self.walk:
            self.walk = self.order.get("train", self.contents.train_order).tolist()
            self.step = self.walk.index(self.example) if self.example in self.walk else -1
        step = min(max(self.step + by, 0), len(self.walk) - 1)
        if not self.walk or step == self.step:
            return None
        self.step, self.example = step, self.walk[step]
        return self.example

    def next_query(self, by: int) -> int | None:
        """The next query of the list (or the one before); None where there is no other."""
        order = self.order.get("queries", self.contents.query_order).tolist()
        if not order:
            return None
        step = order.index(self.query) + by if self.query in order else 0
        if not 0 <= step < len(order):
            return None
        self.ask(order[step])
        return self.query

    def decide(self, what: What, new: str | None = None) -> Decision:
        """Decide about the example that is looked at; relabelled without a label or value it gets the suggested one.

        Raises
        ------
        InputError
            If none is looked at, no label or value is known, or the new one can't be one.
        """
        if self.example is None:
            raise InputError("decide: choose a training example first, by a click or with j and k")
        train = self.contents.display.train
        given = train.said(train.answer, self.example)
        if what == "relabel":
            if given is None:
                raise InputError("relabel: this store knows no labels; keep or exclude")
            new = train.suggestion(self.example) if new is None else new
            if new is None:
                raise InputError(f"relabel: no other {train.answer} is suggested here; choose one beside the button")
            new = train.checked(new, self.contents.display.class_names)
        return self.contents.decisions.decide(
            self.example,
            what,
            id=view.plain(train.ids[self.example]),
            old="" if given is None else given,
            new=new,
            who=self.who,
        )

    def undo(self) -> Decision | None:
        """Take back this person's last decision that stands, and look at its example."""
        found = self.contents.decisions.undo(self.who)
        if found is not None:
            self.look(found.position)
        return found

    def rows(self, side: str, start: int, stop: int, sort: Sequence[Mapping[str, str]], filters: Mapping[str, Any]) -> dict[str, Any]:  # noqa: E501  # fmt: skip
        """A part of a list as a browser shows it: ``rows`` from ``start`` to ``stop``, and how many there are."""
        found = self.contents.train_table() if side == "train" else self.contents.query_table
        first = self.contents.train_order if side == "train" else self.contents.query_order
        order = view.rows(found, search=self.search, filters=filters, sort=sort, first=first)
        self.order[side] = order
        return {"rows": view.cells(found, order[max(start, 0) : max(stop, 0)]), "count": len(order)}
