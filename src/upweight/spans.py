"""Spans of tokens: words, sentences and whatever else is a piece of a text, as positions, by a tokenizer's offsets.

Hugging Face's fast tokenizers give, by ``return_offsets_mapping=True``, the characters ``(first, last + 1)`` of each
token; special tokens and padding have ``(0, 0)`` and belong to no span.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from upweight import scalars
from upweight.errors import InputError

WORD = re.compile(r"\S+")
SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s|$)|$)", re.DOTALL)


@dataclass(frozen=True)
class Span:
    """Positions ``start`` to ``stop`` (not included) of a sequence, with its text, if it has one.

    Attributes
    ----------
    start
        A whole number ≥ 0.
    stop
        A whole number ≥ ``start``.
    text
        How it is called where it is shown; empty: by its positions.
    """

    start: int
    stop: int
    text: str = ""

    def __post_init__(self) -> None:
        scalars.whole("start", self.start, 0)
        scalars.whole("stop", self.stop, self.start)

    def __str__(self) -> str:
        return repr(self.text) if self.text else f"[{self.start}:{self.stop}]"


def words(text: str, offsets: Any) -> list[Span]:
    """What whitespace parts, as spans of tokens; see `pieces`.

    Parameters
    ----------
    text
        As it was given to the tokenizer.
    offsets
        Characters of each token, ``[time, 2]``, as for `pieces`.
    """
    return pieces([match.span() for match in WORD.finditer(text)], offsets, text)


def sentences(text: str, offsets: Any) -> list[Span]:
    """What ends in a full stop, a question or an exclamation mark before whitespace, as spans; see `pieces`.

    Parameters
    ----------
    text
        As it was given to the tokenizer.
    offsets
        Characters of each token, ``[time, 2]``, as for `pieces`.
    """
    return pieces([match.span() for match in SENTENCE.finditer(text)], offsets, text)


def pieces(characters: Iterable[Sequence[int]], offsets: Any, text: str = "") -> list[Span]:
    """Pieces of a text, given as ``(first, last + 1)`` characters, as spans of tokens.

    A token belongs to the piece in which most of its characters are, the first of equal ones, so to one at most; the
    tokens of a piece must stand together. Pieces with no token are left out.

    Parameters
    ----------
    characters
        ``(first, last + 1)`` of each piece.
    offsets
        Characters of each token, ``[time, 2]``, as a tokenizer's ``offset_mapping`` has them.
    text
        The whole text, of which each span gets its part.

    Raises
    ------
    InputError
        If offsets aren't pairs, or tokens of another piece stand between those of one.
    """
    cuts = [(int(first), int(last)) for first, last in characters]
    owners = [_owner(cuts, _pair(each)) for each in offsets]
    found = []
    for number, (first, last) in enumerate(cuts):
        mine = [place for place, owner in enumerate(owners) if owner == number]
        if not mine:
            continue
        if any(owners[place] not in (number, None) for place in range(mine[0], mine[-1] + 1)):
            raise InputError(f"offsets: tokens of other pieces stand between those of characters {first} to {last}")
        found.append(Span(mine[0], mine[-1] + 1, text[first:last]))
    return found


def _pair(offset: Any) -> tuple[int, int]:
    try:
        first, last = (int(number) for number in offset)
    except (TypeError, ValueError):
        raise InputError(f"offsets: give (first, last + 1) characters of each token; got {offset!r}") from None
    return first, last


def _owner(cuts: list[tuple[int, int]], token: tuple[int, int]) -> int | None:
    overlaps = [min(last, token[1]) - max(first, token[0]) for first, last in cuts]
    best = max(overlaps, default=0)
    return overlaps.index(best) if best > 0 else None


def as_spans(name: str, given: Any) -> list[Span]:
    """One sequence's spans: of `Span`, or of pairs (start, stop).

    Parameters
    ----------
    name
        What the argument is called, for messages.
    given
        Of tokens; they may stand in any order.

    Raises
    ------
    InputError
        If one is neither, or two overlap: then sums would count tokens twice.
    """
    found = []
    for each in given:
        if isinstance(each, Span):
            found.append(each)
        else:
            try:
                start, stop = each
            except (TypeError, ValueError):
                raise InputError(f"{name}: give spans or pairs (start, stop); got {each!r}") from None
            found.append(Span(int(start), int(stop)))
    ordered = sorted(found, key=lambda span: (span.start, span.stop))
    for one, two in pairwise(ordered):
        if two.start < one.stop:
            raise InputError(f"{name}: spans [{one.start}:{one.stop}] and [{two.start}:{two.stop}] overlap")
    return found
