"""What each token of a sequence adds to its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def pieces(tokenizer: Any, numbers: Sequence[int]) -> list[str]:
    """Texts of tokens, each with the space before it, so that they are read one after the other.

    A tokenizer says what a token is beside the one before it: ``##ing`` adds no space, ``Ġthe`` and ``▁the`` do.
    Special tokens stand by themselves.
    """
    if not hasattr(tokenizer, "convert_tokens_to_string"):
        return [str(tokenizer.decode([number])) for number in numbers]
    special = set(getattr(tokenizer, "all_special_ids", ()))
    names = [str(name) for name in tokenizer.convert_ids_to_tokens(list(numbers))]
    found: list[str] = []
    for place, (number, name) in enumerate(zip(numbers, names, strict=True)):
        if number in special:
            found.append(f" {name} " if place else f"{name} ")
        elif place == 0 or numbers[place - 1] in special:
            found.append(tokenizer.convert_tokens_to_string([name]).lstrip(" "))
        else:
            before = tokenizer.convert_tokens_to_string(names[place - 1 : place])
            both = tokenizer.convert_tokens_to_string(names[place - 1 : place + 1])
            found.append(both[len(before) :] if both.startswith(before) else name)
    return found
