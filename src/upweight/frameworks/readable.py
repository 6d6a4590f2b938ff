"""Tokens as text to be read one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
UNKNOWN = "·"
"""What stands for a token that has no text: one that a model made itself."""


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text that a tokenizer makes of all of them, special tokens included.

    A token that ends within a character has no text, and the token that ends the character has all of it. Negative
    numbers are shown as `UNKNOWN`.
    """
    found, kept, before = [], [], ""
    for number in ids:
        if number < 0:
            found.append(UNKNOWN)
            continue
        kept.append(number)
        text = tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        if text.endswith(UNREADABLE):
            found.append("")
        elif text.startswith(before):
            found.append(text[len(before) :])
            before = text
        else:  # a tokenizer that rewrites what it has said
            found.append(tokenizer.decode([number]))
            before = text
    return found
