"""The page of `upweight explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.cli.explain import headline, query_label, rows_of, values_at
from upweight.names import LINE

if TYPE_CHECKING:
    from upweight.cli import sources
    from upweight.report import Report, Table
    from upweight.tasks import Explanation, InfluenceByDistance, TokenExplanation


def make_report(
    opened: sources.Source,
    position: int,
    facts: dict[str, Any],
    found: Explanation,
    by_token: TokenExplanation | None,
    distance: InfluenceByDistance | None,
    warnings: list[str],
    foot: str,
) -> Report:
    """The page: the query, its helpful and harmful training examples with values or pictures, all scores."""
    from upweight import plots
    from upweight.cli.distance import distance_figure, figures_of
    from upweight.cli.layout import meaning_block
    from upweight.report import Facts, Figure, Images, Report, Warnings
    from upweight.tasks.explanation_page import captions

    quantity = found.attribution.quantity
    rows = rows_of(opened, found)
    ids = [opened.objective.ids[index] for _, index, _, _ in rows]
    scores = [score for _, _, score, _ in rows]
    blocks: list[Any] = [meaning_block(quantity, found.attribution.magnitude)]
    if opened.images is not None:
        under = [f"{opened.noun} {name}: {row[3]}, {row[2]:+.3g}" for name, row in zip(ids, rows, strict=True)]
        pictures = [np.asarray(opened.images[index]) for _, index, _, _ in rows]
        blocks.append(Images(pictures, under, [row[0] for row in rows], f"The scores are in {quantity.unit}."))
    if by_token is not None:
        known = [{"label": row[3], **(values_at(opened.values, row[1]) or {})} for row in rows]
        named = [(row[0], name, row[2]) for name, row in zip(ids, rows, strict=True)]
        blocks.append(by_token.block(captions(named, known, by_token)))
    blocks.append(_table(opened, position, facts, rows, ids))
    asked: list[Any] = [Facts(facts), *opened.blocks(), Warnings(warnings)]
    if opened.query_images is not None:
        asked.insert(0, Images([np.asarray(opened.query_images[position])], [headline(opened, facts)]))
    said = ["" if label is None else f" ({label})" for *_, label in rows]
    bars = plots.ranking_bars(
        [f"{opened.noun} {name}{label}" for name, label in zip(ids, said, strict=True)],
        scores,
        unit=quantity.unit,
        quantity=quantity.name,
    )
    histogram = plots.score_histogram(
        found.attribution.scores, unit=quantity.unit, quantity=quantity.name, signs=("harmful", "helpful")
    )
    page = (
        Report(f"Why? {opened.title}", _verdict(opened, facts, rows), foot)
        .section("The query", *asked)
        .section("The training examples that helped and harmed", *blocks)
        .section(
            "Scores",
            Figure(bars, "The examples above.", "Bars of the scores of the most helpful and most harmful examples"),
            Figure(histogram, "All training examples.", "Histogram of the scores of all training examples"),
        )
    )
    if distance is None:
        return page
    return page.section(
        "Influence and distance",
        distance_figure(distance, opened.class_names, quantity.unit),
        Facts(figures_of(distance)),
    )


def _verdict(opened: sources.Source, facts: dict[str, Any], rows: list[tuple[str, int, float, Any]]) -> str:
    """The query, and the one that helped and the one that harmed it most, in a sentence each."""
    from upweight.report.numbers import readable

    said = [f"{headline(opened, facts)}."]
    for side, change in {"helpful": "rise", "harmful": "fall"}.items():
        first = next((row for row in rows if row[0] == side), None)
        if first is None or (first[2] > 0) != (side == "helpful"):
            said.append(f"No training example was {side}.")
            continue
        named = "" if first[3] is None else f" ({first[3]})"
        said.append(
            f"Most {side} was {opened.noun} {opened.objective.ids[first[1]]}{_where(opened, first[1])}{named}: "
            f"without it the loss would {change} by {readable(abs(first[2]), 3)}."
        )
    return " ".join(said)


def _where(opened: sources.Source, position: int) -> str:
    """The line of a training row, behind its name."""
    return "".join(f" (line {line})" for line in opened.line_of(position).values())


def _table(
    opened: sources.Source,
    position: int,
    facts: dict[str, Any],
    rows: list[tuple[str, int, float, Any]],
    ids: list[Any],
) -> Table:
    """The examples with what is known of them, the query's own above; no column of labels where there are none.

    Of a table the weightiest columns come first, and what differs from the query is marked.
    """
    from upweight.cli.layout import APART
    from upweight.report import Table

    own = opened.values
    names = [] if own is None else _by_weight(opened, position, [str(name) for name in own.columns])
    labelled, lined = any(label is not None for *_, label in rows), opened.lines is not None
    head = ["", opened.noun, *[LINE] * lined, *(["label"] if labelled else []), "score"]
    body: list[list[Any]] = []
    caption = "The examples."
    if opened.query_table is not None:
        asked = values_at(opened.query_table, position) or {}
        label = [query_label(opened, position, facts)] if labelled else []
        line = [opened.line_of_query(position).get(LINE)] * lined
        body.append(["query", opened.query_ids[position], *line, *label, None, *(asked.get(name) for name in names)])
        caption = "The query, and the examples under it."
    for (side, index, score, label), name in zip(rows, ids, strict=True):
        values = values_at(own, index) or {}
        body.append(
            [
                side,
                name,
                *opened.line_of(index).values(),
                *([label] if labelled else []),
                score,
                *(values[name] for name in names),
            ]
        )
    if opened.model is None or opened.query_table is None:
        return Table([*head, *names], body, caption)
    caption = (
        f"{caption} Columns that move the model most come first. Marked is what differs from the query, of numbers by "
        f"{APART:g} standard deviations."
    )
    return Table([*head, *names], body, caption, marked=_marked(opened, names, body))


def _by_weight(opened: sources.Source, position: int, names: list[str]) -> list[str]:
    """The columns, of a table those that move what the model says of the query most first."""
    if opened.model is None:
        return names
    first = [name for name in opened.weightiest(position, len(names)) if name in names]
    return [*first, *(name for name in names if name not in first)]


def _marked(opened: sources.Source, names: list[str], body: list[list[Any]]) -> list[list[bool]]:
    """Which of the values, in the last columns of a table, differ from those of its first row."""
    from upweight.cli.layout import differs, spreads_of

    spreads = {} if opened.values is None else spreads_of(opened.values)
    before = len(body[0]) - len(names)
    return [
        [False] * before
        + [
            differs(one, other, spreads.get(name))
            for one, other, name in zip(body[0][before:], row[before:], names, strict=True)
        ]
        for row in body
    ]
