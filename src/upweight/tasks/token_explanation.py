"""One query and the training examples that matter to it, token by token, with the words to show them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from upweight.errors import InputError
from upweight.influence import Influence
from upweight.objective import Objective
from upweight.optional import imported
from upweight.quantities.token_attribution import TokenAttribution
from upweight.tasks.token_words import Words

if TYPE_CHECKING:
    from upweight.report import Tokens

SEVERAL = 3
"""Tokens of each example in words."""
FAINT = 1e-3
"""Share of a score below which nothing is said of a part of it."""


@dataclass(frozen=True, eq=False)
class ExplainingExample:
    """A training example with a score for each of its tokens.

    Attributes
    ----------
    position, id, sequence
        Its place, its name, the score of the whole.
    tokens
        Its t tokens as text, without padding and special tokens; each brings the space before it.
    scores
        ``[t]``, or ``[s, t]`` by token of the query too.
    by_token
        Scores of its tokens for the whole query, special tokens of the query included.
    by_query_token
        Scores of the whole example by the query's tokens, ``[s]``.
    special, remainder
        What of the score stands at special tokens of the example (``[CLS]``, ``</s>``), and at no token.
    """

    position: int
    id: Any
    sequence: float
    tokens: tuple[str, ...]
    scores: Float[np.ndarray, "s t"] | Float[np.ndarray, " t"]
    by_token: Float[np.ndarray, " t"]
    by_query_token: Float[np.ndarray, " s"]
    special: float
    remainder: float

    @property
    def apart(self) -> str:
        """What of the score its tokens don't show, in words; empty where there is none."""
        parts = {"special tokens": self.special, "no token": self.remainder}
        least = FAINT * abs(self.sequence)
        said = " and ".join(f"{value:+.3g} at {name}" for name, value in parts.items() if abs(value) > least)
        return f"of which {said}" if said else ""


@dataclass(frozen=True, eq=False)
class TokenExplanation:
    """A query, and training examples that help or harm it, by token.

    Attributes
    ----------
    query_id, tokens
        The query's name and its s tokens as text, without special ones.
    query_scores
        Sums over the examples by token of the query, ``[s]``.
    examples
        In the order of the explanation: the most helpful first, the most harmful last.
    helpful_sign
        Sign of a helpful score: 1, −1, or 0 where the measurement doesn't say.
    remainder
        Parameters whose part of the scores is of no token, with the reason.
    """

    query_id: Any
    tokens: tuple[str, ...]
    query_scores: Float[np.ndarray, " s"]
    examples: tuple[ExplainingExample, ...]
    helpful_sign: int
    remainder: Mapping[str, str]

    def block(self, captions: Sequence[str] | None = None) -> Tokens:
        """The coloured text of a report: a token's colour is its share of the strongest one shown.

        Parameters
        ----------
        captions
            Of the examples (default: name and score).

        Raises
        ------
        InputError
            If there aren't as many captions as examples.
        """
        with imported("report", "TokenExplanation.block"):
            from upweight.report import TokenExample, Tokens
        named = [_named(each) for each in self.examples] if captions is None else list(captions)
        if len(named) != len(self.examples):
            raise InputError(f"captions: got {len(named)}; give one for each of the {len(self.examples)} examples")
        linked = all(each.scores.ndim == 2 for each in self.examples)
        words = "Above the query, below training examples; a token's colour is its share of the strongest shown."
        if linked:
            words += " Choose a token of the query to see what speaks for that token alone."
        return Tokens(
            self.tokens,
            [
                TokenExample(name, each.tokens, each.scores, each.by_token)
                for name, each in zip(named, self.examples, strict=True)
            ],
            words,
            self.helpful_sign or 1,
            query_scores=self.query_scores,
        )

    def __repr__(self) -> str:
        lines = [f"query {self.query_id}: {''.join(self.tokens)}"]
        for each in self.examples:
            order = np.argsort(-np.abs(each.by_token), kind="stable")[:SEVERAL]
            most = ", ".join(f"{each.tokens[place].strip()!r} ({each.by_token[place]:+.3g})" for place in order)
            lines.append(f"  {each.id} ({each.sequence:+.3g}): {''.join(each.tokens)}\n    {most}")
        return "\n".join(lines)


def has_tokenizer(objective: Objective) -> bool:
    """Whether tokens of its examples can be read."""
    return getattr(objective.problem.collate, "tokenizer", None) is not None


def by_token(
    influence: Influence,
    query: Any,
    positions: Sequence[int],
    *,
    query_id: Any,
    quantity: Literal["removal", "upweight"] = "removal",
    measurement: Any = None,
    tokens: Sequence[Sequence[str]] | None = None,
    query_tokens: Sequence[str] | None = None,
    tokenizer: Any = None,
) -> TokenExplanation:
    """Scores of some training examples for one query, by token of both where that fits the memory for queries.

    Parameters
    ----------
    query
        One, in the form of the training data.
    positions
        Of the training examples.
    tokens, query_tokens
        Texts of each training example's tokens, and of the query's (default: as the tokenizer says).
    tokenizer
        Whose tokens these are (default: the objective's).

    Raises
    ------
    InputError
        If the model's gradients can't be parted by token, no tokenizer is known and no tokens are given, or an example
        has fewer tokens than places with a score.
    """
    objective = influence.objective
    different = list(dict.fromkeys(positions))
    asked: dict[str, Any] = {"quantity": quantity, "measurement": measurement, "query_ids": [query_id]}
    whole = influence.attribute(query, by="token", train=different, **asked)
    data, fields = whole.scorer.data, whole.fields
    words = Words(getattr(objective.problem.collate, "tokenizer", None) if tokenizer is None else tokenizer, fields)
    scored: dict[int, _Scored] = {}
    if (fields["query"][-1].stop + 1) * objective.engine.bytes(objective.p) <= objective.engine.budget.queries:
        for part in whole.scores():
            assert part.pairs is not None
            assert part.train is not None
            assert part.query_tokens is not None
            train, query_side = _array(part.train), _array(part.query_tokens)
            scored[part.example] = _Scored(part.sequence, train, query_side, _array(part.pairs))
    else:
        by_query = {part.example: part.query_tokens for part in _parted(whole, "query-token").scores()}
        for part in _parted(whole, "train-token").scores():
            assert part.train is not None
            scored[part.example] = _Scored(part.sequence, _array(part.train), _array(by_query[part.example]), None)
    total = np.sum([each.query for each in scored.values()], axis=0)
    said = words.of(data, 0, "query", total, query_tokens)
    examples = []
    for position in positions:
        found = scored[different.index(position)]
        given = None if tokens is None else tokens[position]
        read = words.of(objective.data, position, "train", found.train, given)
        rows = found.train if found.pairs is None else found.pairs[said.places]
        examples.append(
            ExplainingExample(
                position,
                objective.ids[position],
                found.sequence,
                read.texts,
                rows[..., read.places],
                found.train[read.places],
                found.query[said.places],
                float(found.train[read.special].sum()),
                found.sequence - float(found.train.sum()),
            )
        )
    return TokenExplanation(
        query_id,
        said.texts,
        total[said.places],
        tuple(examples),
        whole.sequence.quantity.helpful_sign,
        whole.remainder,
    )


@dataclass(frozen=True)
class _Scored:
    """Scores of one example at all places: of its own, of the query's, of pairs."""

    sequence: float
    train: np.ndarray
    query: np.ndarray
    pairs: np.ndarray | None


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.double().numpy())


def _named(example: ExplainingExample) -> str:
    said = example.apart
    return f"{example.id}: {example.sequence:+.3g}" + (f", {said}" if said else "")


def _parted(whole: TokenAttribution, by: Any) -> TokenAttribution:
    return replace(whole, scorer=replace(whole.scorer, by=by))
