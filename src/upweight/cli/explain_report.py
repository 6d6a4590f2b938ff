"""The page of `upweight explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.cli.explain import headline, query_label, rows_of, values_at

if TYPE_CHECKING:
    from upweight.cli import sources
    from upweight.report import Report
    from upweight.tasks import Explanation, InfluenceByDistance, TokenExplanation


def make_report(
    opened: sources.Source,
    position: int,
    facts: dict[str, Any],
    found: Explanation,
    by_token: TokenExplanation | None,
    distance: InfluenceByDistance | None,
    warnings: list[str],
) -> Report:
    """The page: the query, its helpful and harmful training examples with values or pictures, all scores."""
    from upweight import plots
    from upweight.cli.distance import distance_figure, figures_of
    from upweight.cli.layout import meaning_block
    from upweight.report import Facts, Figure, Images, Report, Table, Warnings
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
    blocks.append(Table(*_table(opened, position, facts, rows, ids), "The examples, and the query above them."))
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
        Report(f"Why? {opened.title}", headline(opened, facts) + ".")
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


def _table(
    opened: sources.Source,
    position: int,
    facts: dict[str, Any],
    rows: list[tuple[str, int, float, Any]],
    ids: list[Any],
) -> tuple[list[str], list[list[Any]]]:
    """The examples with what is known of them, the query's own above; no column of labels where there are none."""
    own = opened.values
    names = [] if own is None else list(own.columns)
    labelled = any(label is not None for *_, label in rows)
    body: list[list[Any]] = []
    if opened.query_table is not None:
        asked = values_at(opened.query_table, position) or {}
        label = [query_label(opened, position, facts)] if labelled else []
        body.append(["query", opened.query_ids[position], *label, None, *(asked.get(name) for name in names)])
    for (side, index, score, label), name in zip(rows, ids, strict=True):
        values = values_at(own, index) or {}
        body.append([side, name, *([label] if labelled else []), score, *values.values()])
    return ["", opened.noun, *(["label"] if labelled else []), "score", *map(str, names)], body
