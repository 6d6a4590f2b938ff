"""A store opened for a page: its examples with scores, effects and neighbours of one, and what was decided."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import index
from upweight.errors import InputError
from upweight.explore import view
from upweight.explore.coloured import PLAIN, of_bytes
from upweight.explore.decisions import Decisions
from upweight.explore.display import Display, bare, kept
from upweight.explore.evidence import Scored, evidence, sides
from upweight.explore.examples import LABEL, OF, X, Y
from upweight.explore.making import index_place
from upweight.explore.map import Map
from upweight.linalg.extremes import extremes
from upweight.report.numbers import readable, signed
from upweight.store.backend import Backend, Place, backend
from upweight.stored import Stored
from upweight.tasks import TokenExplanation


class Contents:
    """All that a page asks of a store.

    Parameters
    ----------
    store
        A folder, a URL or a backend, with a finished job's scores.

    Raises
    ------
    InputError
        If it is none, isn't finished, or holds decisions or a display of other examples.
    """

    def __init__(self, store: Place):
        self.place: Backend = backend(store, "DIR")
        self.stored = Stored.open(self.place)
        found = kept(self.stored)
        self.is_bare = found is None
        self.display: Display = bare(self.stored) if found is None else found
        self.decisions = Decisions(self.place)

    @property
    def sides(self) -> tuple[str, str]:
        """What the two ends of the scores are called."""
        return sides(self.stored)

    def evidence(self, query: int, k: int) -> list[Scored]:
        """The k training examples of each side for a query: most helpful first, then most harmful."""
        return evidence(self.stored, query, k)

    def coloured(self, query: int) -> TokenExplanation | None:
        """A query and its evidence token by token, where they were scored when the store was made."""
        kept_ = self.display.tokens
        content = PLAIN if kept_ is None else kept_[query]
        return None if content == PLAIN else of_bytes(content)

    def asked_about(self, position: int) -> int | None:
        """The query that a training example is itself; None where it is none."""
        of = self.display.queries.facts.get(OF)
        found = [] if of is None else np.flatnonzero(of == position).tolist()
        return found[0] if found else None

    def effects(self, position: int, k: int) -> list[Scored]:
        """The k queries that a training example helps most, then the k that it harms most.

        Of a store that keeps only the largest and smallest scores of each query, those among whose it is.
        """
        if len(self.stored.shape) < 2:
            return []
        queries, scores = self._column(position)
        sign = self.stored.quantity.helpful_sign or 1
        found: list[Scored] = []
        for side, way in zip(self.sides, (1, -1), strict=True):
            values = way * sign * scores
            best = extremes(values[None], 0, min(k, len(values)), descending=True)
            places = [
                place
                for place, value in zip(best.places[0].tolist(), best.values[0].tolist(), strict=True)
                if value > 0
            ]
            found += [Scored(int(queries[place]), float(scores[place]), side) for place in places]
        return found

    def _column(self, position: int) -> tuple[np.ndarray, Tensor]:
        """The queries that have a score of an example, and the scores."""
        if self.stored.top_k is None:
            return np.arange(self.stored.shape[0]), self.stored.scores[:, position]
        queries, scores = [], []
        for tensors in (self.stored.top(self.stored.top_k), self.stored.bottom(self.stored.top_k)):
            hit = (tensors.positions == position).nonzero()
            queries += hit[:, 0].tolist()
            scores += tensors.scores[hit[:, 0], hit[:, 1]].tolist()
        pairs = dict(zip(queries, scores, strict=True))  # an example may be among both
        return np.array(list(pairs), dtype=np.int64), torch.tensor(list(pairs.values()), dtype=torch.float64)

    @cached_property
    def _rows(self) -> Float[Tensor, "train k"] | None:
        """Gradients of length one; None where there are none."""
        where = index_place(self.place)
        try:
            rows = None if where is None else index.open(where).rows()
        except InputError:
            return None
        if rows is None or len(rows) != len(self.display.train):
            return None
        return rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)

    @property
    def has_neighbours(self) -> bool:
        """Whether there is an index of gradients."""
        return self._rows is not None

    def nearest(self, position: int, k: int) -> list[tuple[int, float]]:
        """The k other training examples whose gradients have the largest cosine with one's, and these."""
        if self._rows is None:
            return []
        cosines = self._rows @ self._rows[position]
        cosines[position] = -torch.inf
        best = extremes(cosines[None], 0, min(k, len(cosines) - 1), descending=True)
        return list(zip(best.places[0].tolist(), best.values[0].tolist(), strict=True))

    def train_table(self) -> list[view.Column]:
        """Columns of the training examples, with what was decided by now."""
        standing = self.decisions.standing()
        columns = self._train_columns
        now = view.decided(len(self.display.train), standing)
        return [
            view.Column(each.key, each.name, each.kind, now) if each.name == view.DECISION else each for each in columns
        ]

    @cached_property
    def _train_columns(self) -> list[view.Column]:
        return view.table(self.display.train, {})

    @cached_property
    def query_table(self) -> list[view.Column]:
        """Columns of the queries."""
        return view.table(self.display.queries)

    @cached_property
    def map(self) -> Map:
        """Where the training examples lie."""
        train = self.display.train
        return Map.of(train.facts[X], train.facts[Y], train.facts.get(LABEL))

    @cached_property
    def train_order(self) -> np.ndarray:
        """Of the list, where nothing is sorted."""
        return view.suspicious_first(self.display.train)

    @cached_property
    def query_order(self) -> np.ndarray:
        """Of the list, where nothing is sorted."""
        return view.wrong_first(self.display.queries)

    def sentence(self, scored: Scored) -> str:
        """A score in words."""
        quantity = self.stored.quantity
        number = f"{signed(scored.score)} {quantity.unit}"
        if not quantity.name.startswith("removal"):
            return f"{scored.side}: {number}"
        what = quantity.words.partition("query's ")[2].partition(" if")[0] or "value"
        way = "rise" if scored.score > 0 else "fall"
        return f"{scored.side}: {number}. Without it the query's {what} would {way} by {readable(abs(scored.score), 3)}"

    def meaning(self) -> str:
        """What the numbers are, their unit, their sign, and whether their sizes can be believed."""
        quantity = self.stored.quantity
        words = f"{quantity.name}: {quantity.words}, in {quantity.unit}. Positive: {quantity.positive}."
        return f"{words} Sizes: {self.stored.magnitude}."

    def summary(self) -> dict[str, Any]:
        """How much there is, in figures; None where it isn't known."""
        queries, train = self.display.queries, self.display.train
        wrong = queries.facts.get("wrong")
        return {
            "training examples": len(train),
            "queries": len(queries),
            "wrong": None if wrong is None else int(wrong.sum()),
            "decisions": len(self.decisions.standing()),
        }

    def counted(self) -> list[str]:
        """The same in words."""
        one = {"training examples": "training example", "queries": "query", "decisions": "decision"}
        found = {name: count for name, count in self.summary().items() if count is not None}
        return [f"{count:,} {one.get(name, name) if count == 1 else name}" for name, count in found.items()]
