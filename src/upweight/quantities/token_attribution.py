"""The result of `Influence.attribute(…, by="token")`: scores by token, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upweight import scalars
from upweight.attribution import Attribution
from upweight.engine.exhausted import within_memory
from upweight.errors import InputError
from upweight.gradients.denormals import flushed
from upweight.gradients.tokens import Field
from upweight.kept import random_states_kept
from upweight.precision import Precision, products
from upweight.quantities.by_token import ByToken, Part
from upweight.quantities.token_scores import Hit, TokenRanking, TokenScores
from upweight.spans import Span, as_spans

WITHIN = 10
"""Training examples of each query in which spans are looked for, unless another number is asked."""

Spans = Sequence[Sequence[Any]] | Mapping[Any, Sequence[Any]]
"""Spans of each example in order, or by its place: `Span` or pairs (start, stop)."""


@dataclass(frozen=True, eq=False)
class TokenAttribution:
    """Scores of training examples for queries, parted by token.

    A gradient is a sum over the positions through whose activations it flows: of a layer with input a and gradient g at
    its output Σ_t g_t ⊗ a_t. The score of a token is the same product with the terms of its own position alone, so that
    scores of tokens and the remainder sum to the example's. A position is that of the input's token on top of which the
    activations stand: in attention the query's. The prediction made at position t, of the token after it, flows through
    position t's logits and through all positions before.

    Only ``sequence`` is held; the rest is made when it is asked for, in memory bounded as other passes are.

    Attributes
    ----------
    sequence
        Scores of whole examples ``[queries, train]``, with what they are.
    by
        ``"train-token"``, ``"query-token"``, or ``"token"``: both.
    remainder
        Parameters that act at no one position (a head on the mean of all, biases of pairs of positions, operations that
        no rule is known for), with the reason. Their part of a score is each result's ``remainder``.
    """

    sequence: Attribution
    scorer: ByToken
    precision: Precision | None = None
    train_spans: Spans | None = None
    query_spans: Spans | None = None

    @property
    def by(self) -> str:
        """Whose tokens."""
        return self.scorer.by

    @cached_property
    def remainder(self) -> dict[str, str]:
        """See the class."""
        return self._working(self.scorer.remainder)

    @cached_property
    def fields(self) -> dict[str, tuple[Field, ...]]:
        """Where each field of tokens stands among the positions of a query, and of a training example."""
        query, train = self._working(self.scorer.times)
        return {"query": query, "train": train}

    def _working(self, work: Any) -> Any:
        def within() -> Any:
            with random_states_kept(), products(self.precision), flushed():
                return work()

        return within_memory(self.scorer.objective.engine, within)

    def grouped(self, train: Spans | None = None, query: Spans | None = None) -> TokenAttribution:
        """The same by spans of tokens, as `upweight.spans` makes them of a tokenizer's offsets.

        Tokens in no span go to the remainder, so that sums still hold.

        Parameters
        ----------
        train, query
            Spans of each training example (by its column) and of each query; None: tokens stay tokens.

        Raises
        ------
        InputError
            If there aren't spans for every example, or two of one overlap.
        """
        for name, spans, count in (("train", train, len(self.sequence.ids)), ("query", query, len(self._queries))):
            if spans is not None and not isinstance(spans, Mapping) and len(spans) != count:
                raise InputError(f"{name}: give the spans of each of {count} examples; got {len(spans)}")
        return replace(
            self,
            train_spans=self.train_spans if train is None else train,
            query_spans=self.query_spans if query is None else query,
        )

    @property
    def _queries(self) -> np.ndarray:
        return self.sequence.query_ids

    def of(self, query: int, example: int) -> TokenScores:
        """Scores of one training example for one query, by their places among columns and rows."""
        wanted = self._none()
        wanted[scalars.whole("query", query, 0, len(self._queries) - 1)][
            scalars.whole("example", example, 0, len(self.sequence.ids) - 1)
        ] = True
        (found,) = self._working(lambda: list(self._scores(wanted)))
        return found

    def scores(self, within: Any = None) -> Iterator[TokenScores]:
        """Scores of every pair, one after the other: nothing else is held.

        Parameters
        ----------
        within
            Which pairs, ``[queries, train]`` of truths (default: all).
        """
        wanted = ~self._none() if within is None else torch.as_tensor(within, dtype=torch.bool)
        if wanted.shape != self._none().shape:
            raise InputError(f"within: give [queries, train], {tuple(self._none().shape)}; got {tuple(wanted.shape)}")
        with random_states_kept(), products(self.precision), flushed():
            yield from self._scores(wanted)

    def top(self, k: int = 5, *, within: int | None = WITHIN) -> TokenRanking:
        """The k most helpful spans of each query.

        Parameters
        ----------
        within
            In so many of the most helpful examples of each query, which costs little more than their scores; None: in
            all of them, in a pass over the training data that costs as many multiplications as there are queries more.
        """
        return self._ranking(k, within, helpful=True)

    def bottom(self, k: int = 5, *, within: int | None = WITHIN) -> TokenRanking:
        """The k most harmful spans of each query, in as many of its most harmful examples."""
        return self._ranking(k, within, helpful=False)

    def _ranking(self, k: int, within: int | None, *, helpful: bool) -> TokenRanking:
        k = scalars.whole("k", k)
        quantity = self.sequence.quantity
        largest = helpful == (quantity.helpful_sign >= 0)
        wanted = self._none()
        if within is None:
            wanted |= True
        else:
            ranked = (self.sequence.top if helpful else self.sequence.bottom)(scalars.whole("within", within))
            wanted.scatter_(1, ranked.positions, True)
        best: list[list[Hit]] = [[] for _ in self._queries]

        def work() -> None:
            for hits in best:
                hits.clear()
            for part in self.scorer.walk(wanted):
                mine = best[part.query]
                mine += self._hits(part, k, largest)
                mine.sort(key=lambda hit: (-hit.score if largest else hit.score, hit.example))
                del mine[k:]

        self._working(work)
        kind = "most helpful" if helpful else "most harmful"
        where = "all examples" if within is None else f"the {within} {kind} examples of each query"
        title = f"{kind} tokens, {quantity.name} [{quantity.unit}], in {where}"
        return TokenRanking(title, tuple(tuple(hits) for hits in best))

    def _hits(self, part: Part, k: int, largest: bool) -> list[Hit]:
        """The best of a part."""
        found = []
        for scores in self._of_part(part):
            values = next(each for each in (scores.pairs, scores.train, scores.query_tokens) if each is not None)
            if not values.numel():
                continue
            picked = values.flatten().topk(min(k, values.numel()), largest=largest)
            for score, place in zip(picked.values.tolist(), picked.indices.tolist(), strict=True):
                row, column = divmod(place, values.shape[-1])
                train = None if scores.train_spans is None else scores.train_spans[column]
                ahead = column if scores.pairs is None else row
                query = None if scores.query_spans is None else scores.query_spans[ahead]
                found.append(
                    Hit(scores.query, scores.example, scores.query_id, scores.id, train, query, score, scores.sequence)
                )
        return found

    def _none(self) -> Tensor:
        return torch.zeros(len(self._queries), len(self.sequence.ids), dtype=torch.bool)

    def _scores(self, wanted: Tensor) -> Iterator[TokenScores]:
        for part in self.scorer.walk(wanted):
            yield from self._of_part(part)

    def _of_part(self, part: Part) -> Iterator[TokenScores]:
        for row, example in enumerate(part.examples.tolist()):
            train, query, pairs = (
                None if values is None else values[row].cpu() for values in (part.train, part.query_tokens, part.pairs)
            )
            train_spans = None if train is None else _spans("train", self.train_spans, example, len(train))
            query_spans = None if query is None else _spans("query", self.query_spans, part.query, len(query))
            total = self._total(part, row)
            if train is not None and self.train_spans is not None:
                train = _sums(train, train_spans)
            if query is not None and self.query_spans is not None:
                query = _sums(query, query_spans)
            if pairs is not None:
                pairs = pairs if self.train_spans is None else _sums(pairs, train_spans)
                pairs = pairs if self.query_spans is None else _sums(pairs.T, query_spans).T
            summed = next(each for each in (pairs, train, query) if each is not None).sum()
            yield TokenScores(
                query=part.query,
                example=example,
                query_id=self._queries[part.query],
                id=self.sequence.ids[example],
                sequence=total,
                train=train,
                query_tokens=query,
                pairs=pairs,
                remainder=total - float(summed) if self._is_grouped else float(part.rest[row]),
                train_spans=train_spans,
                query_spans=query_spans,
            )

    @property
    def _is_grouped(self) -> bool:
        return self.train_spans is not None or self.query_spans is not None

    def _total(self, part: Part, row: int) -> float:
        return float(self.sequence.scores[part.query, int(part.examples[row])])

    def __repr__(self) -> str:
        lines = [f"TokenAttribution by {self.by}, of"]
        return "\n".join([*lines, *(f"  {line}" for line in repr(self.sequence).splitlines())])


def _spans(name: str, given: Spans | None, place: int, time: int) -> tuple[Span, ...]:
    """Spans of one sequence: those given, or each token."""
    if given is None:
        return tuple(Span(position, position + 1) for position in range(time))
    if isinstance(given, Mapping) and place not in given:
        return ()
    spans = as_spans(name, given[place])
    for span in spans:
        if span.stop > time:
            raise InputError(f"{name}: span [{span.start}:{span.stop}] of example {place}, which has {time} positions")
    return tuple(spans)


def _sums(scores: Tensor, spans: tuple[Span, ...] | None) -> Tensor:
    """Sums over spans of the last dimension."""
    assert spans is not None
    parts = [scores[..., span.start : span.stop].sum(-1) for span in spans]
    return torch.stack(parts, -1) if parts else scores.new_zeros(*scores.shape[:-1], 0)
