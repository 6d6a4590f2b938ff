"""The page of an explanation: queries with their training examples, in tables and as coloured text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from upweight.report import Block, Facts, Meaning, Report, Table, Text

if TYPE_CHECKING:
    from upweight.tasks.explain import Explanation
    from upweight.tasks.token_explanation import TokenExplanation

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
    parted = found.tokens[row] if found.tokens else None
    made = about(at(found.query_columns, row), parted)
    if found.predicted:
        made.insert(0, Text(found.predicted[row]))
    if parted is not None:
        known = [at(found.columns, position) for _, position, _, _ in shown]
        made.append(parted.block(captions([(side, name, score) for side, _, name, score in shown], known, parted)))
    rows = [[side, name, score, *at(found.columns, position).values()] for side, position, name, score in shown]
    heads = ["", "id", f"score [{found.attribution.quantity.unit}]", *map(str, found.columns)]
    return [*made, Table(heads, rows, "The most helpful and the most harmful.")]


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


def about(known: Mapping[str, Any], parted: TokenExplanation | None) -> list[Block]:
    """What is known of a query, in figures and paragraphs; what its coloured text says is left out."""
    rest = _beside(known, None if parted is None else parted.tokens)
    short = {name: value for name, value in rest.items() if len(str(value)) <= SHORT}
    long = [Text(f"{name}: {value}") for name, value in rest.items() if name not in short]
    return [*([Facts(short)] if short else []), *long]


def captions(
    shown: Sequence[tuple[str, Any, float]], known: Sequence[Mapping[str, Any]], parted: TokenExplanation
) -> list[str]:
    """What stands above each example's text: its side, name and score, and what is known of it in a few words.

    What of a score stands at special tokens, which aren't shown, or at no token, is said beside it.
    """
    found = []
    for (side, name, score), values, example in zip(shown, known, parted.examples, strict=True):
        rest = _beside(values, example.tokens)
        words = [f"{key}: {value}" for key, value in rest.items() if len(str(value)) <= SHORT]
        apart = [example.apart] if example.apart else []
        found.append(" · ".join([", ".join([f"{side}: {name}, {score:+.3g}", *apart]), *words]))
    return found


def _beside(known: Mapping[str, Any], tokens: Sequence[str] | None) -> dict[str, Any]:
    """What is known but not said by the tokens themselves."""
    text = None if tokens is None else "".join("".join(tokens).split())
    return {name: value for name, value in known.items() if value is not None and "".join(str(value).split()) != text}
