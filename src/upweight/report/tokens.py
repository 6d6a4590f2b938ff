"""Text coloured token by token, on both sides: choosing a token of the query shows its share in every example's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from upweight import kinds, plots
from upweight.errors import InputError

MOST = 400
"""Tokens of a query that can be chosen one by one; each is a rule of the page's style."""
SPACES = {"Ġ": " ", "▁": " ", "Ċ": "\n"}
"""How tokenisers write a space before a token, or the end of a line."""


@dataclass(frozen=True, eq=False)
class TokenExample:
    """A training text, token by token.

    Args:
        caption: what it is: its id, its score.
        tokens: its t tokens, as they are to be read one after the other.
        scores: [t], or [query tokens, t].
    """

    caption: str
    tokens: Sequence[str]
    scores: plots.Values


@dataclass(frozen=True)
class Token:
    """A token as shown: its text, its number in words and its shares of the strongest, from -1 to 1.

    ``shares`` begin with that of all query tokens together; the others are those of each.
    """

    text: str
    said: str
    shares: tuple[float, ...]

    @property
    def style(self) -> str:
        """Shares as the page's style reads them."""
        return ";".join(f"--r{k}:{share:.3g}" for k, share in enumerate(self.shares))


@dataclass(frozen=True, eq=False)
class Tokens:
    """A query and training examples as coloured text, the two linked.

    Args:
        tokens: those of the query; none: it is not shown.
        examples: training texts, in the order in which they are shown.
        caption: what the colours mean.
        helpful_sign: whether positive scores are helpful (1) or harmful (-1).
        leading: whether tokens bring their own spaces, as a tokeniser's pieces do; else a space is put between them.
        query_scores: [query tokens], what colours the query where the examples' scores are not by its tokens.

    Raises:
        InputError: no example, scores of another shape than tokens, or numbers that aren't finite.
    """

    tokens: Sequence[str]
    examples: Sequence[TokenExample]
    caption: str
    helpful_sign: int = 1
    leading: bool = True
    query_scores: plots.Values | None = None
    kind: ClassVar[str] = "tokens"

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        if not self.examples:
            raise InputError("examples: got none; give one or more TokenExample")
        if self.helpful_sign not in (1, -1):
            raise InputError(f"helpful_sign: got {self.helpful_sign!r}; give 1 or -1")
        if self.query_scores is not None:
            shape = np.shape(self.query_scores)
            if shape != (len(self.tokens),):
                raise InputError(
                    f"query_scores: got shape {shape}; give [{len(self.tokens)}], one for each query token"
                )
            if not np.isfinite(self.query_scores).all():
                raise InputError("query_scores: NaN or infinite; give finite numbers")
        for number, example in enumerate(self.examples):
            scores, t = np.asarray(example.scores, dtype=float), len(example.tokens)
            if scores.shape not in ((t,), (len(self.tokens), t)):
                raise InputError(
                    f"examples[{number}].scores: got shape {scores.shape}; give [{t}], or [{len(self.tokens)}, {t}] by "
                    "token of the query"
                )
            if not np.isfinite(scores).all():
                raise InputError(f"examples[{number}].scores: NaN or infinite; give finite numbers")

    @property
    def linked(self) -> bool:
        """Whether tokens of the query can be chosen."""
        return 0 < len(self.tokens) <= MOST and all(matrix.shape[0] > 1 for matrix in self._matrices)

    @cached_property
    def _matrices(self) -> list[np.ndarray]:
        """Of every example ``[1 + query tokens, t]``, all together first; or ``[1, t]``; positive: helpful."""
        found = []
        for example in self.examples:
            scores = self.helpful_sign * np.asarray(example.scores, dtype=float)
            found.append(scores[None] if scores.ndim == 1 else np.concatenate([scores.sum(0, keepdims=True), scores]))
        return found

    @cached_property
    def query(self) -> list[Token]:
        """The query's tokens, each coloured by its sum over the examples shown."""
        by_token = [matrix[1:].sum(1) for matrix in self._matrices if len(matrix) > 1]
        if not by_token and self.query_scores is not None:
            by_token = [self.helpful_sign * np.asarray(self.query_scores, dtype=float)]
        sums = np.sum(by_token, axis=0) if by_token else np.zeros(len(self.tokens))
        top = float(np.abs(sums).max(initial=0)) or 1.0
        return [
            Token(self._read(text, place), f"{value:+.3g}", (value / top,))
            for place, (text, value) in enumerate(zip(self.tokens, sums.tolist(), strict=True))
        ]

    @cached_property
    def texts(self) -> list[tuple[str, list[Token]]]:
        """Caption and tokens of every example; strengths can be compared between examples."""
        rows = np.stack([[np.abs(row).max(initial=0) for row in matrix] for matrix in self._matrices]).max(0)
        tops, found = np.where(rows > 0, rows, 1), []
        for example, matrix in zip(self.examples, self._matrices, strict=True):
            shares = (matrix / tops[: len(matrix), None]).T.tolist()
            pairs = zip(example.tokens, matrix[0].tolist(), shares, strict=True)
            tokens = [
                Token(self._read(text, place), f"{value:+.3g}", tuple(share))
                for place, (text, value, share) in enumerate(pairs)
            ]
            found.append((example.caption, tokens))
        return found

    def _read(self, text: str, place: int) -> str:
        for mark, space in SPACES.items():
            text = text.replace(mark, space)
        return text if self.leading or place == 0 else f" {text}"
