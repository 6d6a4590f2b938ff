"""What stands at the places of an example: the texts that are given, else what a tokenizer says of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upweight import scalars
from upweight.data import Data
from upweight.errors import InputError
from upweight.frameworks.pieces import marks, pieces
from upweight.gradients.tokens import Field
from upweight.quantities.by_token import token_numbers

UNREAD = "·"
"""A place that no token is known for."""


@dataclass(frozen=True)
class Read:
    """Texts of tokens that are shown, with their places, and the places of special tokens, which aren't shown."""

    texts: tuple[str, ...]
    places: list[int]
    special: list[int]


@dataclass(frozen=True)
class Words:
    """Reads examples.

    Attributes
    ----------
    tokenizer
        Whose tokens these are; None: texts are given.
    fields
        Where which tokens stand, by side.
    """

    tokenizer: Any
    fields: Mapping[str, Sequence[Field]]

    def of(self, data: Data, place: int, side: str, scores: np.ndarray, given: Sequence[str] | None) -> Read:
        """What an example reads; a place without a token is shown where it has one of the scores ``[time]``.

        Raises
        ------
        InputError
            If more texts are given than places, or fewer than have scores, or nothing says what tokens read.
        """
        if given is not None:
            return self._given(place, side, scores, given)
        if self.tokenizer is None:
            raise InputError(
                "tokens: the objective knows no tokenizer; give the tokens of each training example as texts, and "
                "query_tokens likewise, or the tokenizer"
            )
        read: list[str | None] = [None] * len(scores)
        special, hidden = [], marks(self.tokenizer)
        batch = data.take([place])
        for field in self.fields[side]:
            numbers = token_numbers(batch, [field]).tolist()[: len(read) - field.start]
            there = [k for k, number in enumerate(numbers) if number >= 0]
            for k, text in zip(there, pieces(self.tokenizer, [numbers[k] for k in there]), strict=True):
                if numbers[k] in hidden:
                    special.append(field.start + k)
                else:
                    read[field.start + k] = text
        for k in np.flatnonzero(scores).tolist():
            if read[k] is None and k not in special:
                read[k] = UNREAD
        return _shown(read, special)

    def _given(self, place: int, side: str, scores: np.ndarray, given: Sequence[str]) -> Read:
        texts = [str(text) for text in given]
        if isinstance(given, str) or len(texts) > len(scores) or scores[len(texts) :].any():
            name = "tokens" if side == "train" else "query_tokens"
            raise InputError(
                f"{name}: got {scalars.shown(given)} for {side} example {place}, which has {len(scores)} places; "
                "give one text for each token, in their order (padding at the end may be left out)"
            )
        return _shown(list(texts), [])


def _shown(read: Sequence[str | None], special: list[int]) -> Read:
    places = [place for place, text in enumerate(read) if text is not None]
    texts = _spaced([text for text in read if text is not None])
    after = {place + 1 for place in special}
    parted = [
        f" {text}" if k and text and not text[:1].isspace() and place in after else text
        for k, (place, text) in enumerate(zip(places, texts, strict=True))
    ]
    return Read(tuple(parted), places, special)


def _spaced(texts: Sequence[str]) -> tuple[str, ...]:
    """Words as texts to be read one after the other: with spaces, unless some bring their own."""
    if any(text[:1].isspace() or text[:1] in "Ġ▁Ċ" or text[-1:].isspace() for text in texts if text):
        return tuple(texts)
    return tuple(text if k == 0 else f" {text}" for k, text in enumerate(texts))
