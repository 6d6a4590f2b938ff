"""The page of an explanation: queries with their training examples, in tables and as coloured text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from upweight.report import Block, Facts, Meaning, Report, Table

if TYPE_CHECKING:
    from upweight.tasks.explain import Explanation

SHORT = 40
"""Letters of what is said of an example above its text."""


def page(found: Explanation, title: str) -> Report:
    """A section for each query."""
    quantity, magnitude = found.attribution.quantity, found.attribution.magnitude
    words = f"{quantity.name}: {quantity.words}"
    meaning = Meaning(words, quantity.positive, quantity.unit, "" if magnitude is None else str(magnitude))
    made = Report(
        title, f"The training examples that helped and harmed {len(found.attribution.query_ids)} queries most."
    )
    made = made.section("The scores", meaning)
    for row, name in enumerate(found.attribution.query_ids.tolist()):
        made = made.section(f"Query {name}", *blocks(found, row))
    return made


def blocks(found: Explanation, row: int) -> list[Block]:
    """One query: what is known of it, coloured text where tokens were scored, and a table of its examples."""
    shown = sided(found, row)
    made: list[Block] = [Facts(known)] if (known := at(found.query_columns, row)) else []
    if found.tokens:
        above = [caption(side, name, score, at(found.columns, position)) for side, position, name, score in shown]
        made.append(found.tokens[row].block(above))
    rows = [[side, name, score, *at(found.columns, position).values()] for side, position, name, score in shown]
    unit = found.attribution.quantity.unit
    return [
        *made,
        Table(["", "id", f"score [{unit}]", *map(str, found.columns)], rows, "The most helpful and harmful."),
    ]


def sided(found: Explanation, row: int) -> list[tuple[str, int, Any, float]]:
    """Side, position, name and score of a query's examples: the most helpful first, the most harmful last."""
    return [
        (side, *each)
        for side, ranking in (("helpful", found.helpful), ("harmful", found.harmful))
        for each in zip(
            ranking.positions[row].tolist(), ranking.ids[row].tolist(), ranking.scores[row].tolist(), strict=True
        )
    ]


def at(columns: Mapping[str, Sequence[Any]], position: int) -> dict[str, Any]:
    """What columns say of one example."""
    return {str(name): values[position] for name, values in columns.items()}


def caption(side: str, name: Any, score: float, known: Mapping[str, Any]) -> str:
    """What stands above an example's text: its side, name and score, and what is known of it in a few words."""
    words = [f"{key}: {value}" for key, value in known.items() if value is not None and len(str(value)) <= SHORT]
    return " · ".join([f"{side}: {name}, {score:+.3g}", *words])
