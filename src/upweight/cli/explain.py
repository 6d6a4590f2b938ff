"""`upweight explain`: which training examples made the model say this?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.cli.options import (
    FOLDER,
    AsJson,
    Drop,
    Estimator,
    Force,
    Model,
    ModelKind,
    Only,
    Output,
    Query,
    Quiet,
    Row,
    RowGroup,
    Seed,
    Source,
    Target,
    Task,
    TaskName,
    Top,
    Weight,
    table_options,
)
from upweight.cli.outputs import plan
from upweight.cli.session import session
from upweight.spreadsheets import as_csv

if TYPE_CHECKING:
    import pandas as pd

    from upweight.cli import sources
    from upweight.report import Report, Table
    from upweight.tasks import Explanation, InfluenceByDistance


def explain(
    source: Source,
    target: Target = None,
    row: Row = None,
    query: Query = None,
    top: Top = 5,
    drop: Drop = None,
    only: Only = None,
    weight: Weight = None,
    group: RowGroup = None,
    task: Task = TaskName.auto,
    model: Model = ModelKind.auto,
    estimator: Estimator = None,
    output: Output = FOLDER,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show the training examples that helped and harmed one prediction most.

    Of a CSV, a fifth is held out and a logistic model trained on the rest. Explained is what it gets most wrong
    among the held-out rows, or the queries of a study file, unless --row or --query says which.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.distance import distance_of, figures_of
        from upweight.cli.layout import foot, magnitude_json, meaning, meaning_json
        from upweight.cli.leverage import correction
        from upweight.cli.sources import open_source
        from upweight.influence import Influence
        from upweight.tasks import explain as attribute

        outputs = plan(output, "explain", endings=[".csv"], inputs=[source], force=force)
        options = table_options(drop, only, weight, group, task, model, estimator)
        run.stage(f"reading {source.name} and training")
        opened = open_source(source, target, row, query, seed, options)
        outputs.refuse_what_was_read()
        position = opened.query()
        facts = query_facts(opened, position)
        run.stage(f"scoring {opened.objective.n:,} training examples")
        asked = opened.queries.take([position])
        names = [opened.query_ids[position]]
        found = attribute(Influence(opened.objective), asked, top, query_ids=names, **correction(opened))
        # Among rows of a table there is no distance that means something: their columns have units of their own.
        distance = None if opened.model is not None else distance_of(opened, [position], found.attribution)
        page = make_report(opened, position, facts, found, distance, run.warnings, foot(seed))
        written = outputs.write({".csv": as_csv(all_scores(opened, found)), ".html": page.html()})
        if not as_json:
            for note in opened.notes:
                run.note(note)
            run.show(
                _headline(opened, facts),
                _shown(opened, position, found),
                meaning(found.attribution.quantity, found.attribution.magnitude),
            )
        run.files = {"all scores": written[".csv"], "report": written[".html"]}
        run.result = {
            "source": source,
            "notes": opened.notes,
            "columns": opened.columns,
            "query": facts | {"values": _values(opened.query_frame, position)},
            "quantity": meaning_json(found.attribution.quantity),
            "magnitude": magnitude_json(found.attribution.magnitude),
            "solver": "" if found.attribution.report is None else str(found.attribution.report),
            "damping": found.attribution.damping,
            "distance": None if distance is None else figures_of(distance),
            "helpful": _as_json(opened, found.helpful.positions[0].tolist(), found.helpful.scores[0].tolist()),
            "harmful": _as_json(opened, found.harmful.positions[0].tolist(), found.harmful.scores[0].tolist()),
        }


def all_scores(opened: sources.Source, found: Explanation) -> pd.DataFrame:
    """Every training example, the most helpful first: name, label, score, and the table's own columns."""
    import pandas as pd

    scores = found.attribution.matrix[0].cpu().numpy()
    order = np.argsort(-scores * (found.attribution.quantity.helpful_sign or 1), kind="stable")
    positions = order.tolist()
    shown = pd.DataFrame(
        {
            opened.noun: opened.objective.ids[order],
            "label": labels(opened, positions),
            f"score [{found.attribution.quantity.unit}]": scores[order],
        }
    )
    if opened.train_frame is None:
        return shown
    values = opened.train_frame.iloc[positions, 1:].reset_index(drop=True)
    values.columns = [f"{name} (column)" if name in shown.columns else name for name in values.columns]
    return pd.concat([shown, values], axis=1)


def query_facts(opened: sources.Source, position: int) -> dict[str, Any]:
    """The query in figures: its name, given label, prediction with probability, loss."""
    from upweight.predictions import named

    said = opened.predictions()
    facts: dict[str, Any] = {opened.noun: opened.query_ids[position]}
    if said is not None:
        facts["label"] = named(said.given[[position]], opened.class_names)[0]
        facts["predicted"] = named(said.predicted[[position]], opened.class_names)[0]
        probability = said.probability(said.predicted)
        if probability is not None:
            facts["probability"] = float(probability[position])
    elif opened.model is not None:
        from upweight.losses import split_batch

        asked = opened.queries.take([position])
        facts["value"] = float(split_batch(asked)[1].reshape(-1)[0])
        facts["predicted"] = float(opened.objective.outputs(asked).reshape(-1)[0])
    facts["loss"] = float(opened.objective.losses(opened.queries.take([position]))[0])
    return facts


def _headline(opened: sources.Source, facts: dict[str, Any]) -> str:
    words = f"{opened.title}, {opened.noun} {facts[opened.noun]}"
    if "value" in facts:
        words += f": {facts['value']:.6g}, predicted {facts['predicted']:.6g}"
    elif "predicted" in facts:
        words += f": labelled {facts['label']!s}, predicted {facts['predicted']!s}"
    if "probability" in facts:
        words += f" (p = {facts['probability']:.3f})"
    return f"{words}; loss {facts['loss']:.3g}"


def _verdict(opened: sources.Source, facts: dict[str, Any], rows: list[tuple[str, int, float, Any]]) -> str:
    """The query, and the one that helped and the one that harmed it most, in a sentence each."""
    said = [f"{_headline(opened, facts)}."]
    for side, change in {"helpful": "rise", "harmful": "fall"}.items():
        first = next((row for row in rows if row[0] == side), None)
        if first is None or (first[2] > 0) != (side == "helpful"):
            said.append(f"No training example was {side}.")
            continue
        named = "" if first[3] is None else f" ({first[3]})"
        said.append(
            f"Most {side} was {opened.noun} {opened.objective.ids[first[1]]}{named}: without it the loss would "
            f"{change} by {abs(first[2]):.3g}."
        )
    return " ".join(said)


def labels(opened: sources.Source, positions: Sequence[int]) -> list[Any]:
    """The labels of training examples; gaps where the loss knows no classes."""
    from upweight.errors import InputError
    from upweight.losses import split_batch
    from upweight.predictions import named

    try:
        targets = split_batch(opened.objective.data.take(list(positions)))[1]
    except InputError:
        return [None] * len(positions)
    if targets.dim() > 1 and targets.numel() > len(targets):
        return [None] * len(positions)
    flat = targets.reshape(-1)
    names = None if flat.is_floating_point() else opened.class_names
    return named(flat, names).tolist()


def _values(frame: Any, position: int) -> dict[str, Any] | None:
    return None if frame is None else frame.astype(object).where(frame.notna(), None).iloc[position].to_dict()


def _as_json(opened: sources.Source, positions: list[int], scores: list[float]) -> list[dict[str, Any]]:
    return [
        {
            opened.noun: opened.objective.ids[position],
            "position": position,
            "label": label,
            "score": score,
            "values": _values(opened.train_frame, position),
        }
        for position, score, label in zip(positions, scores, labels(opened, positions), strict=True)
    ]


def _rows(opened: sources.Source, found: Explanation) -> list[tuple[str, int, float, Any]]:
    """Side, position, score and label of every example shown, the most helpful first, the most harmful last."""
    rows = []
    for side, ranking in (("helpful", found.helpful), ("harmful", found.harmful)):
        positions = ranking.positions[0].tolist()
        rows += list(
            zip([side] * len(positions), positions, ranking.scores[0].tolist(), labels(opened, positions), strict=True)
        )
    return rows


def _shown(opened: sources.Source, position: int, found: Explanation) -> Any:
    from upweight.cli.layout import signed, table

    columns = [] if opened.weightiest is None else opened.weightiest(position)
    rows = _rows(opened, found)
    body: list[list[Any]] = []
    if opened.query_frame is not None:
        asked = opened.query_frame.iloc[position]
        body.append(["query", opened.query_ids[position], asked.iloc[0], "", *asked[columns]])
    for side, index, score, label in rows:
        values = [] if opened.train_frame is None else list(opened.train_frame.iloc[index][columns])
        body.append([side, opened.objective.ids[index], label, signed(score), *values])
    rules = [len(body) - len(rows) - 1, len(body) - len(rows) + found.helpful.positions.shape[1] - 1]
    unit = found.attribution.quantity.unit
    return table(
        "Most helpful and most harmful training examples",
        ["", opened.noun, "label", f"score [{unit}]", *columns],
        body,
        sections=rules,
    )


def make_report(
    opened: sources.Source,
    position: int,
    facts: dict[str, Any],
    found: Explanation,
    distance: InfluenceByDistance | None,
    warnings: list[str],
    foot: str,
) -> Report:
    """The page: the query, its helpful and harmful training examples with values or pictures, all scores."""
    from upweight import plots
    from upweight.cli.distance import distance_figure, figures_of
    from upweight.cli.layout import meaning_block
    from upweight.report import Facts, Figure, Images, Report, Text, Warnings

    quantity = found.attribution.quantity
    rows = _rows(opened, found)
    ids = [opened.objective.ids[index] for _, index, _, _ in rows]
    scores = [score for _, _, score, _ in rows]
    notes = [Text("\n\n".join(f"Note: {note}." for note in opened.notes))] if opened.notes else []
    blocks: list[Any] = [meaning_block(quantity, found.attribution.magnitude)]
    if opened.images is not None:
        captions = [f"{opened.noun} {name}: {row[3]}, {row[2]:+.3g}" for name, row in zip(ids, rows, strict=True)]
        pictures = [np.asarray(opened.images[index]) for _, index, _, _ in rows]
        blocks.append(Images(pictures, captions, [row[0] for row in rows], f"The scores are in {quantity.unit}."))
    blocks.append(_table(opened, position, rows, ids))
    asked: list[Any] = [Facts(facts), Facts(opened.facts), *opened.columns_block(), *notes, Warnings(warnings)]
    if opened.query_images is not None:
        asked.insert(0, Images([np.asarray(opened.query_images[position])], [_headline(opened, facts)]))
    bars = plots.ranking_bars(
        [f"{opened.noun} {name} ({row[3]})" for name, row in zip(ids, rows, strict=True)],
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


def _table(opened: sources.Source, position: int, rows: list[tuple[str, int, float, Any]], ids: list[Any]) -> Table:
    """The examples, and the query above them; of a table the weightiest columns first, and what differs marked."""
    from upweight.cli.layout import APART, differs, spreads_of
    from upweight.report import Table

    frame, asked, head = opened.train_frame, opened.query_frame, ["", opened.noun, "label", "score"]
    if frame is None or asked is None:
        body = [[side, name, label, score] for (side, _, score, label), name in zip(rows, ids, strict=True)]
        return Table(head, body, "The examples.")
    names, spreads = _by_weight(opened, position, [str(name) for name in frame.columns[1:]]), spreads_of(frame)
    query = _cells(asked[[frame.columns[0], *names]], position)
    body = [["query", opened.query_ids[position], query[0], None, *query[1:]]]
    for (side, index, score, label), name in zip(rows, ids, strict=True):
        body.append([side, name, label, score, *_cells(frame[names], index)])
    marked = [[False] * len(body[0])]
    for row in body[1:]:
        pairs = zip(query[1:], row[4:], names, strict=True)
        marked.append([False] * 4 + [differs(one, other, spreads.get(name)) for one, other, name in pairs])
    caption = (
        "The query, and the examples under it; columns that move the model most come first. Marked is what differs "
        f"from the query, of numbers by {APART:g} standard deviations."
    )
    return Table([*head, *names], body, caption, marked=marked)


def _by_weight(opened: sources.Source, position: int, names: list[str]) -> list[str]:
    """The columns, those that move what the model says of the query most first."""
    if opened.model is None:
        return names
    example = opened.queries.take([position])[0][0].cpu().numpy()
    first = [name for name in opened.model.weightiest_columns(example, len(names)) if name in names]
    return [*first, *(name for name in names if name not in first)]


def _cells(frame: Any, position: int) -> list[Any]:
    values = frame.iloc[position]
    return values.astype(object).where(values.notna(), None).tolist()
