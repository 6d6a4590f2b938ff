"""Parts of a page as HTML: what comes from data is escaped here; everywhere else it is put into a page as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from upweight.report.numbers import LARGEST_WHOLE, MISSING, Cell, cell, grouped
from upweight.report.tokens import Token

WORD = re.compile(r"\w+")
COMMON = 3
"""Letters of a word up to which it is never marked: the, of, and."""

DIGITS = 4


def values(
    own: Mapping[str, Any],
    differing: Iterable[str] = (),
    unlike: Mapping[str, Any] | None = None,
    years: Iterable[str] = (),
) -> Markup:
    """An example's columns as a table, the cells in ``differing`` marked, with what stands there in ``unlike``.

    Thousands are set apart, but in columns of ``years``.
    """
    marked, other, whole = set(differing), unlike or {}, set(years)
    rows = [
        Markup('<tr{}><th scope="row">{}</th><td{}>{}</td>{}</tr>').format(
            Markup(' class="differs"') if name in marked else "",
            name,
            Markup(' title="{}"').format(_cell(value).exact) if _cell(value).exact else "",
            shown(value, name in whole),
            Markup('<td class="other">{}</td>').format(shown(other.get(name), name in whole) if name in marked else "")
            if unlike is not None
            else "",
        )
        for name, value in own.items()
    ]
    return Markup('<table class="values">{}</table>').format(Markup("").join(rows))


def shown(value: Any, is_year: bool = False) -> str:
    """A value of a cell in words."""
    if value is None or value == "":
        return MISSING.text
    found = _cell(value)
    return found.text if is_year else grouped(found).text


def _cell(value: Any) -> Cell:
    """Numbers without a fraction as the whole ones that they are: 60 rather than 60.00."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_WHOLE
    return cell(int(value) if is_whole else value, DIGITS)


def text(words: str, shared: Iterable[str] = ()) -> Markup:
    """A text to read, with the words that another has too marked."""
    marked, parts, end = set(shared), [], 0
    for found in WORD.finditer(words):
        if found[0].lower() in marked:
            parts += [escape(words[end : found.start()]), Markup("<mark>{}</mark>").format(found[0])]
            end = found.end()
    parts.append(escape(words[end:]))
    return Markup('<p class="text">{}</p>').format(Markup("").join(parts))


def tokens(some: Sequence[Token], chosen: int = 0) -> Markup:
    """A text whose tokens have the colour of their share: of all tokens of the query (0), or of one of them."""
    parts = [
        Markup('<span class="token" style="--v:{}"{}>{}</span>').format(
            f"{float(each.shares[chosen]):.3f}",
            "" if chosen else Markup(' title="{}"').format(each.said),
            each.text,
        )
        for each in some
    ]
    return Markup('<p class="text">{}</p>').format(Markup("").join(parts))


def shared_words(one: str, other: str) -> set[str]:
    """Words of more than a few letters that stand in both."""
    found = [{word.lower() for word in WORD.findall(each) if len(word) > COMMON} for each in (one, other)]
    return found[0] & found[1]


def circles(points: Sequence[tuple[float, float, str, float]]) -> Markup:
    """Points of a map as SVG: x, y, class and radius of each."""
    spots = [
        Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(kind, f"{x:.1f}", f"{y:.1f}", f"{radius:g}")
        for x, y, kind, radius in points
    ]
    return Markup("").join(spots)
