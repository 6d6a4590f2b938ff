"""Passages of Shakespeare's plays, character by character: most plays to begin with, the openings of four to learn."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from upweight.datasets import load

QUICK = bool(os.environ.get("QUICK"))
LEARNT = ("hamlet", "macbeth", "othello", "romeo-and-juliet")
LENGTH = 64
PASSAGES = 8 if QUICK else 64
"""Of each play's opening, to be learnt."""
EVERY = 5 if QUICK else 17
"""One passage in so many is not learnt; every second of these is a query, the others are kept back."""
MARKS = re.compile(r"#+ |[*_\\]| +(?=\n)")


@dataclass(frozen=True, eq=False)
class Passages:
    """Tokens of ``LENGTH`` characters each, the texts and where they are from.

    Attributes
    ----------
    corpus
        The other plays, one after another, ``[characters]``.
    train, queries, kept_back
        ``[passages, LENGTH]``; the last are for choices that the queries must not see.
    ids, query_ids
        Names, such as ``"hamlet 12"``.
    """

    characters: str
    corpus: Int[Tensor, " characters"]
    train: Int[Tensor, "train length"]
    queries: Int[Tensor, "queries length"]
    kept_back: Int[Tensor, "others length"]
    ids: tuple[str, ...]
    query_ids: tuple[str, ...]

    def text(self, tokens: Int[Tensor, " length"]) -> str:
        """Tokens as they are read."""
        return "".join(self.characters[token] for token in tokens.tolist())

    @property
    def texts(self) -> list[str]:
        """Of the training passages."""
        return [self.text(tokens) for tokens in self.train]

    @property
    def query_texts(self) -> list[str]:
        """Of the queries."""
        return [self.text(tokens) for tokens in self.queries]


def passages() -> Passages:
    """Fetch the plays, take their marks away and cut them."""
    plays = load("shakespeare")
    texts = {name: MARKS.sub("", text) for name, text in zip(plays.names, plays.texts, strict=True)}
    characters = "".join(sorted(set("".join(texts.values()))))
    number = {character: k for k, character in enumerate(characters)}

    def tokens(text: str) -> Int[Tensor, " length"]:
        return torch.tensor([number[character] for character in text])

    count = PASSAGES + PASSAGES // (EVERY - 1)
    opening = {name: tokens(texts[name][: count * LENGTH]).reshape(count, LENGTH) for name in LEARNT}
    asked = torch.arange(count) % EVERY == EVERY // 2
    others = torch.cat([found[asked] for found in opening.values()])
    names = [(name, place, bool(asked[place])) for name in LEARNT for place in range(count)]
    return Passages(
        characters,
        tokens("\n".join(text for name, text in texts.items() if name not in LEARNT)),
        torch.cat([found[~asked] for found in opening.values()]),
        others[::2],
        others[1::2],
        tuple(f"{name} {place}" for name, place, query in names if not query),
        tuple(f"{name} {place}" for name, place, query in names if query)[::2],
    )
