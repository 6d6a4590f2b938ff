"""Tables for a terminal of 80 columns, and blocks that every report shares."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from upweight import files, report
from upweight.attribution import Magnitude, Quantity
from upweight.report.numbers import cell, column

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONG = 12
"""Letters of a line, where words are broken."""
APART = 0.5
"""Standard deviations of a column by which a number differs enough to be marked."""
WIDEST = 22
"""Characters of a cell in the terminal; the report shows all."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, sections: Iterable[int] = ()) -> Group:
    """A Rich table: numbers to the right with three digits, long words cut, a rule after the rows ``sections``.

    Where it is wider than the terminal, words are broken after their hyphens and underscores, not anywhere.
    """
    given = [list(row) for row in rows]
    shown_columns = [column(name, [_known(row[place]) for row in given], 3) for place, name in enumerate(columns)]
    texts = [list(columns), *([_cut(each.text) for each in row] for row in zip(*shown_columns, strict=True))]
    widths = [max(len(text) for text in column) for column in zip(*texts, strict=True)]
    if sum(widths) + 2 * len(widths) > shutil.get_terminal_size().columns:
        texts = [[_breakable(text) for text in row] for row in texts]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(texts[0]):
        numeric = any(_is_number(row[i]) for row in given)
        shown.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    breaks = set(sections)
    for number, row in enumerate(texts[1:]):
        shown.add_row(*map(Text, row), end_section=number in breaks)
    return _titled(title, shown)


def _breakable(text: str) -> str:
    """Lines that end where a word of several parts may: ``marital-`` / ``status``."""
    lines: list[str] = []
    for part in re.split(r"(?<=[-_])(?=\w)", text) if len(text) > LONG and not _is_number(text) else [text]:
        if lines and len(lines[-1]) + len(part) <= LONG:
            lines[-1] += part
        else:
            lines.append(part)
    return "\n".join(lines)


def facts(title: str, values: Mapping[str, Any]) -> Group:
    """Names and values in two columns."""
    shown = Table(box=None, show_header=False, pad_edge=False)
    shown.add_column(overflow="fold")
    shown.add_column(overflow="fold")
    for name, value in values.items():
        shown.add_row(Text(name, style="dim"), Text(column(name, [value], 4)[0].text))
    return _titled(title, shown)


def _titled(title: str, shown: Table) -> Group:
    """The title above, on the whole width; a table's own title is broken to the width of its columns."""
    return Group(Text(f"\n{title}", style="bold"), shown)


def meaning(quantity: Quantity, magnitude: Magnitude | None = None) -> Text:
    """What a score is, its unit and its sign, and whether its size can be believed."""
    said = f"{quantity.name}: {quantity.words}, in {quantity.unit}; positive: {quantity.positive}."
    return Text(said if magnitude is None else f"{said} Sizes: {magnitude}.", style="dim")


def meaning_block(quantity: Quantity, magnitude: Magnitude | None = None) -> report.Meaning:
    """The same as a block of a report."""
    words, sizes = f"{quantity.name}: {quantity.words}", "" if magnitude is None else str(magnitude)
    return report.Meaning(quantity=words, sign=quantity.positive, unit=quantity.unit, sizes=sizes)


def meaning_json(quantity: Quantity) -> dict[str, Any]:
    """What a score is, for machines."""
    return asdict(quantity)


def magnitude_json(magnitude: Magnitude | None) -> dict[str, Any] | None:
    """Whether its size can be believed, for machines."""
    return None if magnitude is None else asdict(magnitude)


def beside(shown: pd.DataFrame, table: pd.DataFrame | None, positions: Any) -> pd.DataFrame:
    """Rows with a table's own columns at these positions; a name that both have ends in ``(column)`` there."""
    if table is None:
        return shown
    values = table.iloc[positions].reset_index(drop=True)
    values.columns = [f"{name} (column)" if name in shown.columns else name for name in values.columns]
    return pd.concat([shown.reset_index(drop=True), values], axis=1)


def png(figure: Figure) -> files.Content:
    """A figure as what a file of it is written by."""
    return partial(figure.savefig, format="png", dpi=150)


def spreads_of(frame: pd.DataFrame) -> dict[str, float]:
    """The standard deviation of the finite numbers in every column of numbers."""
    columns = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name])]
    numbers = {str(name): frame[name].to_numpy(dtype=float, na_value=np.nan) for name in columns}
    return {name: float(pd.Series(values[np.isfinite(values)]).std()) for name, values in numbers.items()}


def differs(one: Any, other: Any, spread: float | None) -> bool:
    """Whether two cells differ enough to be marked: numbers by `APART` standard deviations of their column."""
    numbers = [isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in (one, other)]
    if spread is not None and all(numbers):
        return abs(float(one) - float(other)) > APART * spread
    return bool(one != other)


def foot(seed: int | None = None) -> str:
    """How a page was made: version, command, seed (where something was drawn) and day."""
    command = shlex.join(["upweight", *sys.argv[1:]])
    seeded = "" if seed is None else f", seed {seed}"
    return f"Made by upweight {metadata.version('upweight')} on {date.today():%d %B %Y}{seeded}: {command}"


def frame_block(frame: pd.DataFrame, caption: str, links: Sequence[str | None] | None = None) -> report.Table:
    """A data frame as a table of a report; missing values as gaps. ``links``: anchors that its rows lead to."""
    cells = frame.astype(object).where(frame.notna(), None)
    return report.Table([str(name) for name in frame.columns], cells.to_numpy().tolist(), caption, links=links)


def _known(value: Any) -> Any:
    return None if value is pd.NA else value


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _is_number(value: Any) -> bool:
    return cell(value, 3).numeric or (isinstance(value, str) and value[:1] in "+-" and value[1:2].isdigit())
