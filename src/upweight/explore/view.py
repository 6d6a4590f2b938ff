"""What a page shows, as functions of examples and decisions: rows, their order, filters. No browser is known here."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from upweight.errors import InputError
from upweight.explore import examples as shown
from upweight.explore.decisions import Decision
from upweight.explore.examples import Examples, plain
from upweight.names import LINE
from upweight.report import numbers

ID, POSITION, DECISION = "id", "position", "decision"
BESIDE = (
    LINE, shown.LABEL, shown.VALUE, shown.SUGGESTED, shown.SUSPICION, shown.SELF, shown.PREDICTION,
    shown.RESIDUAL, shown.WRONG, shown.LOSS,
)  # fmt: skip
"""Facts in the order in which a table has them."""
MOST_TEXT = 160
"""Letters of a cell; the rest is in the example's own view."""
NUMBER, TEXT, FLAG = "number", "text", "flag"


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table.

    Attributes
    ----------
    key
        What a browser calls it: names may hold anything.
    name
        What stands above it.
    kind
        ``number``, ``text`` or ``flag``.
    values
        ``[examples]``.
    """

    key: str
    name: str
    kind: str
    values: np.ndarray

    @cached_property
    def texts(self) -> list[str]:
        """The cells in small letters, to look for words in; numbers with a fraction are none."""
        if self.kind == FLAG:
            return [self.name if each else "" for each in self.values.tolist()]
        if self.values.dtype.kind == "f":
            return [""] * len(self.values)
        return [str(each).lower() for each in self.values.tolist()]

    @cached_property
    def ranks(self) -> np.ndarray:
        """The cells as numbers in the same order; NaN for missing ones."""
        if self.kind != TEXT:
            return self.values.astype(float)
        return np.unique(np.asarray(self.texts, dtype=object), return_inverse=True)[1].astype(float)


def table(examples: Examples, decisions: Mapping[int, Decision] | None = None) -> list[Column]:
    """The columns of examples; with ``decisions`` (of training examples) one of these too."""
    found: list[tuple[str, np.ndarray]] = [(ID, examples.ids)]
    if examples.named:
        found.append((POSITION, np.arange(len(examples))))
    if decisions is not None:
        found.append((DECISION, decided(len(examples), decisions)))
    found += [(name, examples.facts[name]) for name in BESIDE if name in examples.facts]
    taken = {name for name, _ in found}
    found += [(f"{name} (column)" if name in taken else name, values) for name, values in examples.own.items()]
    return [Column(f"c{number}", name, _kind(values), values) for number, (name, values) in enumerate(found)]


def names_something(column: Column) -> bool:
    """Whether a column's numbers name things, as positions, lines and years do: they are written without a comma."""
    return numbers.names_something(column.name) or numbers.are_years(column.values)


def decided(count: int, decisions: Mapping[int, Decision]) -> np.ndarray:
    """Each example's decision in words; "" where there is none."""
    words = {position: said(each) for position, each in decisions.items()}
    return np.array([words.get(position, "") for position in range(count)], dtype=str)


def said(decision: Decision) -> str:
    """A decision in words."""
    return f"relabel {decision.old} → {decision.new}" if decision.what == "relabel" else decision.what


def rows(
    columns: Sequence[Column],
    *,
    search: str = "",
    filters: Mapping[str, Any] | None = None,
    sort: Sequence[Mapping[str, str]] = (),
    first: np.ndarray | None = None,
) -> np.ndarray:
    """Positions of the examples that are shown, in order.

    Parameters
    ----------
    search
        Words, each of which stands in one of an example's cells, whatever their case.
    filters
        Of columns by their keys, as AG Grid says them: ``{"c3": {"type": "greaterThan", "filter": 2}}``, or two of
        these under ``conditions`` with an ``operator``.
    sort
        Columns by their keys with a direction, ``[{"colId": "c3", "sort": "desc"}]``; the first counts most.
    first
        The order where nothing is sorted, and that of equals (default: by position).

    Raises
    ------
    InputError
        If a filter or an order is of another form, or of a column that isn't there.
    """
    by_key = {column.key: column for column in columns}
    count = len(columns[0].values)
    chosen = np.ones(count, dtype=bool)
    for word in search.lower().split():
        hit = np.zeros(count, dtype=bool)
        for column in columns:
            hit |= contains(column, word)
            if hit.all():
                break
        chosen &= hit
    for key, said_ in (filters or {}).items():
        chosen &= _condition(_column(by_key, key), said_)
    order = np.arange(count) if first is None else first
    for each in reversed(list(sort)):
        order = order[_sorted(_column(by_key, each.get("colId")).ranks[order], each.get("sort") == "desc")]
    return order[chosen[order]]


def cells(columns: Sequence[Column], positions: np.ndarray) -> list[dict[str, Any]]:
    """Rows of a table for a browser, each with its position under ``at``."""
    found: list[dict[str, Any]] = [{"at": int(position)} for position in positions]
    for column in columns:
        for row, value in zip(found, column.values[positions], strict=True):
            row[column.key] = _cell(plain(value))
    return found


def wrong_first(examples: Examples) -> np.ndarray:
    """Queries in the order of a list: wrong ones first, and of these the highest losses."""
    losses = examples.facts.get(shown.LOSS)
    if losses is None:
        return np.arange(len(examples))
    wrong = examples.facts.get(shown.WRONG, np.zeros(len(examples), dtype=bool))
    return np.lexsort((-losses, ~wrong))


def suspicious_first(examples: Examples) -> np.ndarray:
    """Training examples in the order of a list: the most suspicious first, else those of largest self-influence."""
    for name in (shown.SUSPICION, shown.SELF, shown.LOSS):
        if name in examples.facts:
            return np.argsort(-examples.facts[name], kind="stable")
    return np.arange(len(examples))


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Names of the columns that both have, with other values."""
    return {name for name in one.keys() & other.keys() if one[name] != other[name]}


def contains(column: Column, word: str) -> np.ndarray:
    """Where a word (in small letters) stands in the cells."""
    return np.fromiter((word in text for text in column.texts), dtype=bool, count=len(column.texts))


def _kind(values: np.ndarray) -> str:
    return FLAG if values.dtype.kind == "b" else NUMBER if values.dtype.kind in "iuf" else TEXT


def _cell(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MOST_TEXT:
        return f"{value[: MOST_TEXT - 1]}…"
    return value


def _column(by_key: Mapping[str, Column], key: Any) -> Column:
    if key not in by_key:
        raise InputError(f"column: there is no {key!r}; give one of {', '.join(by_key)}")
    return by_key[key]


def _sorted(ranks: np.ndarray, descending: bool) -> np.ndarray:
    """A stable order; what is missing is last either way."""
    gaps = np.isnan(ranks)
    return np.lexsort((np.where(gaps, 0, -ranks if descending else ranks), gaps))


NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "equals": operator.eq, "notEqual": operator.ne, "lessThan": operator.lt, "lessThanOrEqual": operator.le,
    "greaterThan": operator.gt, "greaterThanOrEqual": operator.ge,
}  # fmt: skip


def _condition(column: Column, said_: Any) -> np.ndarray:
    try:
        if said_.get("operator") in ("AND", "OR"):
            parts = [_condition(column, each) for each in said_["conditions"]]
            return np.logical_and.reduce(parts) if said_["operator"] == "AND" else np.logical_or.reduce(parts)
        return _of_numbers(column, said_) if column.kind == NUMBER else _of_texts(column, said_)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"filter: {str(said_)[:80]} is none of column {column.name!r} ({error})") from error


def _of_numbers(column: Column, said_: Mapping[str, Any]) -> np.ndarray:
    kind, values = said_["type"], column.values
    if kind in ("blank", "notBlank"):
        gaps = np.isnan(values.astype(float))
        return gaps if kind == "blank" else ~gaps
    if kind == "inRange":
        return (values >= float(said_["filter"])) & (values <= float(said_["filterTo"]))
    return np.asarray(NUMBERS[kind](values, float(said_["filter"])))


def _of_texts(column: Column, said_: Mapping[str, Any]) -> np.ndarray:
    kind, word = said_["type"], str(said_.get("filter") or "").lower()
    tests: dict[str, Callable[[str], bool]] = {
        "blank": lambda text: not text,
        "notBlank": bool,
        "contains": lambda text: word in text,
        "notContains": lambda text: word not in text,
        "equals": lambda text: text == word,
        "notEqual": lambda text: text != word,
        "startsWith": lambda text: text.startswith(word),
        "endsWith": lambda text: text.endswith(word),
    }
    test = tests[kind]
    return np.fromiter((test(text) for text in column.texts), dtype=bool, count=len(column.texts))
