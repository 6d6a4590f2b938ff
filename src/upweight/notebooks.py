"""Results as a notebook shows them: tables of HTML with nothing but text in their cells, in the notebook's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

SHADES = {True: "rgba(27,110,60,.12)", False: "rgba(168,50,31,.12)"}
"""Behind what is helpful, and what is harmful: light enough for dark pages too."""


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], helpful: Sequence[bool | None] = ()) -> str:
    """A table; ``helpful``: of each row, whether it is shown as such (None: neither)."""
    head = "".join(f'<th style="text-align:left">{escape(str(name))}</th>' for name in columns)
    body = []
    for number, row in enumerate(rows):
        shade = helpful[number] if number < len(helpful) else None
        style = "" if shade is None else f' style="background:{SHADES[shade]}"'
        cells = "".join(f'<td style="text-align:{_side(cell)}">{escape(shown(cell))}</td>' for cell in row)
        body.append(f"<tr{style}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def page(title: str, said: Sequence[str], *blocks: str) -> str:
    """A title, sentences and blocks that are HTML already."""
    words = "".join(f'<div style="opacity:.8">{escape(each)}</div>' for each in said if each)
    return f"<div><b>{escape(title)}</b>{words}{''.join(blocks)}</div>"


def shown(value: Any) -> str:
    """A cell's text: four digits of what has a fraction."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        value = item()
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return str(value)


def _side(value: Any) -> str:
    return "right" if isinstance(value, int | float) and not isinstance(value, bool) else "left"
