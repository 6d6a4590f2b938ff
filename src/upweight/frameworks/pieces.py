"""What each token of a sequence adds to its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from upweight.errors import InputError

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer says of bytes that are no character by themselves."""
MARKS = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id")
PLACES = ("unk_token_id", "mask_token_id")
"""Special to a tokenizer, and yet in a word's place."""


def pieces(tokenizer: Any, numbers: Sequence[int]) -> list[str]:
    """Texts of tokens, each with the space before it, so that they are read one after the other.

    A tokenizer says what a token is beside the one before it: ``##ing`` adds no space, ``Ġthe`` and ``▁the`` do.
    Special tokens stand by themselves. A token that ends within a character has no text, and the one that ends the
    character has all of it.
    """
    special = set(getattr(tokenizer, "all_special_ids", ()))
    read, names = _reader(tokenizer, numbers)
    found: list[str] = []
    before: list[Any] = []  # the tokens of the last text
    open_: list[Any] = []  # those of a character that hasn't ended
    for place, (number, name) in enumerate(zip(numbers, names, strict=True)):
        if number in special:
            found.append(f" {name} " if place else f"{name} ")
            before, open_ = [], []
            continue
        open_.append(name)
        first, both = read(before) if before else "", read([*before, *open_])
        if both.endswith(UNREADABLE):
            found.append("")
            continue
        added = both[len(first) :] if both.startswith(first) else read(open_)
        found.append(added if before else added.lstrip(" "))
        before, open_ = open_, []
    return found


def marks(tokenizer: Any) -> set[int]:
    """Special tokens that are no part of a text: beginnings, ends, separators, padding; not unknown or masked words."""
    words = {getattr(tokenizer, name, None) for name in PLACES} - {getattr(tokenizer, name, None) for name in MARKS}
    return set(getattr(tokenizer, "all_special_ids", ())) - words


def _reader(tokenizer: Any, numbers: Sequence[int]) -> tuple[Callable[[list[Any]], str], list[Any]]:
    """What makes a text of tokens, and the tokens in the form that it takes.

    Raises
    ------
    InputError
        If the tokenizer doesn't know one of them.
    """
    if hasattr(tokenizer, "convert_tokens_to_string"):
        names = tokenizer.convert_ids_to_tokens(list(numbers))
        unknown = [number for number, name in zip(numbers, names, strict=True) if name is None]
        if unknown:
            raise InputError(
                f"tokenizer: it has no token {unknown[0]}, so it isn't the one that made these; give the tokenizer "
                "that the model was trained with"
            )
        return lambda some: str(tokenizer.convert_tokens_to_string(some)), names
    return lambda some: str(tokenizer.decode(some)), list(numbers)
