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

    Parameters
    ----------
    caption
        What it is: its id, its score.
    tokens
        Its t tokens, as they are to be read one after the other.
    scores
        [t], or [query tokens, t].
    whole
        [t], for the whole query, where tokens of the query that aren't shown have a part (default: the sum over those
        shown).
    """

    caption: str
    tokens: Sequence[str]
    scores: plots.Values
    whole: plots.Values | None = None


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

    Parameters
    ----------
    tokens
        Those of the query; none: it is not shown.
    examples
        Training texts, in the order in which they are shown.
    caption
        What the colours mean.
    helpful_sign
        Whether positive scores are helpful (1) or harmful (-1).
    query_scores
        Of the query's tokens, ``[query tokens]`` (default: the sum over the tokens of the examples).
    leading
        Whether tokens bring their own spaces, as a tokeniser's pieces do; else a space is put between them.

    Raises
    ------
    InputError
        No example, scores of another shape than tokens, or numbers that aren't finite.
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
        for number, example in enumerate(self.examples):
            scores, t = np.asarray(example.scores, dtype=float), len(example.tokens)
            if scores.shape not in ((t,), (len(self.tokens), t)):
                raise InputError(
                    f"examples[{number}].scores: got shape {scores.shape}; give [{t}], or [{len(self.tokens)}, {t}] by "
                    "token of the query"
                )
            if not np.isfinite(scores).all():
                raise InputError(f"examples[{number}].scores: NaN or infinite; give finite numbers")
            if example.whole is not None:
                whole = np.asarray(example.whole, dtype=float)
                if whole.shape != (t,) or not np.isfinite(whole).all():
                    raise InputError(f"examples[{number}].whole: give [{t}] finite numbers; got shape {whole.shape}")

        if self.query_scores is not None:
            given = np.asarray(self.query_scores, dtype=float)
            if given.shape != (len(self.tokens),) or not np.isfinite(given).all():
                raise InputError(f"query_scores: give [{len(self.tokens)}] finite numbers; got shape {given.shape}")

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
            if scores.ndim == 2:
                given = example.whole
                whole = scores.sum(0) if given is None else self.helpful_sign * np.asarray(given, dtype=float)
                scores = np.concatenate([whole[None], scores])
            found.append(np.atleast_2d(scores))
        return found

    @cached_property
    def query(self) -> list[Token]:
        """The query's tokens, each coloured by its own score, or by its sum over the examples shown."""
        by_token = [matrix[1:].sum(1) for matrix in self._matrices if len(matrix) > 1]
        if self.query_scores is not None:
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
