"""One query and the training examples that matter to it, token by token, with the words to show them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from upweight import scalars
from upweight.data import Data
from upweight.errors import InputError
from upweight.frameworks.collation import Collation
from upweight.frameworks.pieces import pieces
from upweight.influence import Influence
from upweight.objective import Objective
from upweight.optional import imported
from upweight.quantities.token_attribution import TokenAttribution

if TYPE_CHECKING:
    from upweight.report import Tokens

SEVERAL = 3
"""Tokens of each example in words."""
UNREAD = "·"
"""A place that no token is known for."""


@dataclass(frozen=True, eq=False)
class ExplainingExample:
    """A training example with a score for each of its tokens.

    Attributes
    ----------
    position, id, sequence
        Its place, its name, the score of the whole.
    tokens
        Its t tokens as text, without padding; each brings the space before it.
    scores
        ``[t]``, or ``[s, t]`` by token of the query too.
    """

    position: int
    id: Any
    sequence: float
    tokens: tuple[str, ...]
    scores: Float[np.ndarray, "s t"] | Float[np.ndarray, " t"]

    @property
    def by_token(self) -> Float[np.ndarray, " t"]:
        """Scores of its tokens for the whole query."""
        return self.scores if self.scores.ndim == 1 else self.scores.sum(0)


@dataclass(frozen=True, eq=False)
class TokenExplanation:
    """A query, and training examples that help or harm it, by token.

    Attributes
    ----------
    query_id, tokens
        The query's name and its s tokens as text.
    query_scores
        Sums over the examples by token of the query, ``[s]``.
    examples
        In the order of the explanation: the most helpful first, the most harmful last.
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
        named = [f"{each.id}: {each.sequence:+.3g}" for each in self.examples] if captions is None else list(captions)
        if len(named) != len(self.examples):
            raise InputError(f"captions: got {len(named)}; give one for each of the {len(self.examples)} examples")
        linked = all(each.scores.ndim == 2 for each in self.examples)
        words = "Above the query, below training examples; a token's colour is its share of the strongest shown."
        if linked:
            words += " Choose a token of the query to see what speaks for that token alone."
        return Tokens(
            self.tokens,
            [TokenExample(name, each.tokens, each.scores) for name, each in zip(named, self.examples, strict=True)],
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
) -> TokenExplanation:
    """Scores of some training examples for one query, by token of both where that fits the memory for queries.

    Parameters
    ----------
    query
        One, in the form of the training data.
    positions
        Of the training examples.
    tokens, query_tokens
        Texts of each training example's tokens, and of the query's (default: as the objective's tokenizer says).

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
    data = whole.scorer.data
    fields = whole.fields
    words = _Words(objective, whole)
    s = fields["query"][-1].stop
    found: dict[int, tuple[float, np.ndarray]] = {}
    of_query = np.zeros(s)
    if (s + 1) * objective.engine.bytes(objective.p) <= objective.engine.budget.queries:
        for part in whole.scores():
            assert part.pairs is not None
            found[part.example] = (part.sequence, part.pairs.double().numpy())
        of_query = np.sum([pairs.sum(1) for _, pairs in found.values()], axis=0)
    else:
        for part in _parted(whole, "train-token").scores():
            assert part.train is not None
            found[part.example] = (part.sequence, part.train.double().numpy())
        for part in _parted(whole, "query-token").scores():
            assert part.query_tokens is not None
            of_query = of_query + part.query_tokens.double().numpy()
    said = words.of(data, 0, "query", of_query, query_tokens)
    places = [place for place, word in enumerate(said) if word is not None]
    examples = []
    for position in positions:
        sequence, scores = found[different.index(position)]
        given = None if tokens is None else tokens[position]
        read = words.of(objective.data, position, "train", scores, given)
        kept = [place for place, word in enumerate(read) if word is not None]
        rows = scores if scores.ndim == 1 else scores[places]
        texts = tuple(word for word in read if word is not None)
        examples.append(ExplainingExample(position, objective.ids[position], sequence, _spaced(texts), rows[..., kept]))
    return TokenExplanation(
        query_id,
        _spaced([word for word in said if word is not None]),
        of_query[places],
        tuple(examples),
        whole.sequence.quantity.helpful_sign,
        whole.remainder,
    )


def _parted(whole: TokenAttribution, by: Any) -> TokenAttribution:
    return replace(whole, scorer=replace(whole.scorer, by=by))


@dataclass(frozen=True)
class _Words:
    """What stands at the places of an example: what is given, else what the tokenizer says of the batch's numbers."""

    objective: Objective
    whole: TokenAttribution

    def of(
        self, data: Data, place: int, side: str, scores: np.ndarray, given: Sequence[str] | None
    ) -> list[str | None]:
        """A text for each place; None where there is no token and no score."""
        strong = np.abs(scores).reshape(-1, scores.shape[-1]).max(0) > 0
        read: list[str | None] = [None] * scores.shape[-1]
        if given is not None:
            texts = [str(text) for text in given]
            if isinstance(given, str) or len(texts) > len(read) or strong[len(texts) :].any():
                name = "tokens" if side == "train" else "query_tokens"
                raise InputError(
                    f"{name}: got {scalars.shown(given)} for {side} example {place}, which has {len(read)} places; "
                    "give one text for each token, in their order (padding at the end may be left out)"
                )
            read[: len(texts)] = texts
            return read
        batch = data.take([place])
        collation = self.objective.problem.collate
        if not isinstance(collation, Collation) or collation.tokenizer is None or not isinstance(batch, Mapping):
            raise InputError(
                "tokens: the objective knows no tokenizer; give the tokens of each training example as texts, and "
                "query_tokens likewise"
            )
        for field in self.whole.fields[side]:
            ids, mask = batch.get(field.name), batch.get(MASKS.get(field.name, ""))
            texts = [] if ids is None else pieces(collation.tokenizer, ids[0].tolist())
            counts = [True] * len(texts) if mask is None else (mask[0] != 0).tolist()
            for k, (text, counted) in enumerate(zip(texts, counts, strict=True)):
                if counted and field.start + k < len(read):
                    read[field.start + k] = text
        return [UNREAD if word is None and strong[k] else word for k, word in enumerate(read)]


MASKS = {"input_ids": "attention_mask", "decoder_input_ids": "decoder_attention_mask"}
"""Which key of a batch says of which places that they are padding."""


def _spaced(texts: Sequence[str]) -> tuple[str, ...]:
    """Words as texts to be read one after the other: with spaces, unless some bring their own."""
    if any(text[:1].isspace() or text[:1] in "Ġ▁Ċ" or text[-1:].isspace() for text in texts if text):
        return tuple(texts)
    return tuple(text if k == 0 else f" {text}" for k, text in enumerate(texts))
