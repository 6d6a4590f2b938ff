"""The pieces of a condition, made into one that Python's parser reads: text in quotes, names in backticks, the rest.

Text begins and ends with the same quote; a backslash stands before a quote that belongs to it, and before another
backslash. A backtick in a name is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from upweight.errors import InputError

PIECES = re.compile(
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|`((?:[^`]|``)*)`|(?<![=!<>])(=)(?!=)|([^'"`=]+|.)""", re.DOTALL
)
"""Text in quotes, a name in backticks, a lone ``=``, or anything else."""
ESCAPED = re.compile(r"""\\(['"\\])""")
PREFIX = re.compile(r"(?:^|\W)([rbuf]{1,2})$", re.IGNORECASE)
"""Letters that change what a quote after them means in Python."""
PLACE = "_column_"
CAPITALS = re.compile(r"\b(AND|OR|NOT|IN)\b|&&|\|\||<>|!(?!=)")


@dataclass(frozen=True)
class Words:
    """A condition for the parser; ``quoted`` are the names in backticks by what stands for each."""

    source: str
    quoted: Mapping[str, str]


def words(text: str) -> Words:
    """Take a condition apart.

    Raises
    ------
    InputError
        If a quote or backtick is open, two texts stand side by side, or there is a lone ``=`` or a comment.
    """
    place = PLACE
    while place in text:  # a column may be called so
        place += "_"
    quoted: dict[str, str] = {}
    parts: list[str] = []
    was_text = False
    for piece in PIECES.finditer(text):
        string, name, equals, other = piece.groups()
        if equals:
            raise _refusal(text, "has a single =; write == to compare")
        if string is not None:
            _check_text(text, string, "".join(parts), was_text)
            parts.append(repr(ESCAPED.sub(r"\1", string[1:-1])))
        elif name is not None:
            if not name.strip():
                raise _refusal(text, "has backticks with nothing between; put the name of a column there")
            parts.append(f" {place}{len(quoted)}_ ")
            quoted[parts[-1].strip()] = name.replace("``", "`")
        else:
            _check_other(text, other)
            parts.append(other)
        was_text = string is not None or (was_text and piece.group().isspace())
    return Words("".join(parts).strip(), quoted)


def meant(text: str) -> str:
    """What may be meant where a condition can't be read; "" where there is no telling."""
    found = CAPITALS.search(re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "", text))
    written = {"&&": "and", "||": "or", "<>": "!=", "!": "not"}
    return (
        "" if found is None else f"; write {written.get(found.group(), found.group().lower())!r} for {found.group()!r}"
    )


def _check_text(text: str, string: str, before: str, was_text: bool) -> None:
    if was_text:
        raise _refusal(
            text,
            f"has two texts side by side before {string[:40]}; a quote within text is written \\' or stands in the "
            "other quotes, and several texts in a list, ['a', 'b']",
        )
    prefix = PREFIX.search(before)
    if prefix:
        raise _refusal(text, f"{prefix.group(1)}{string[:40]} isn't understood; text begins with its quote")


def _check_other(text: str, other: str) -> None:
    if other in "'\"`":
        if other == "`":
            raise _refusal(text, "can't be read: a backtick is open; close it after the name of the column")
        raise _refusal(text, f"can't be read: a quote ({other}) is open; close it, or write \\{other} within text")
    if "#" in other:
        raise _refusal(text, "has a # outside quotes; put a name that holds one in backticks")


def _refusal(text: str, what: str) -> InputError:
    return InputError(f"--group: {text!r} {what}")
