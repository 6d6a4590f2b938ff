"""`upweight explain`: which training examples made the model say this?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from upweight.cli.opening import opening, said, show
from upweight.cli.options import (
    FOLDER,
    AsJson,
    Drop,
    Estimator,
    FittedOn,
    Force,
    Model,
    ModelKind,
    ModelOrSource,
    Only,
    Output,
    Query,
    Quiet,
    Row,
    RowGroup,
    Seed,
    Target,
    Task,
    TaskName,
    Top,
    Trust,
    Weight,
    table_options,
)
from upweight.cli.outputs import plan
from upweight.cli.session import session
from upweight.names import LINE
from upweight.spreadsheets import as_csv

if TYPE_CHECKING:
    import pandas as pd

    from upweight.cli import sources
    from upweight.tasks import Explanation, TokenExplanation


ByToken = Annotated[
    bool | None,
    typer.Option(
        "--tokens/--no-tokens",
        help="Study of texts: score tokens too, and colour them (default: where the study says what its tokens are).",
    ),
]


def explain(
    source: ModelOrSource,
    table: FittedOn = None,
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
    test: Annotated[
        Path | None, typer.Option(help="CSV: another table with the same columns, whose rows are asked about.")
    ] = None,
    trust: Trust = False,
    tokens: ByToken = None,
    output: Output = FOLDER,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show the training examples that helped and harmed one prediction most.

    Of a CSV, a fifth is held out and a logistic model trained on the rest. Explained is what it gets most wrong
    among the held-out rows, or the queries of a study file, unless --row or --query says which. Of a model of your
    own, explained is a row of its table, or of --test.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.coloured import coloured, tokens_of
        from upweight.cli.distance import distance_of, figures_of
        from upweight.cli.explain_report import make_report
        from upweight.cli.layout import foot, meaning
        from upweight.cli.leverage import correction
        from upweight.cli.sources import Asked, open_asked
        from upweight.influence import Influence
        from upweight.tasks import explain as attribute

        inputs = [path for path in (source, table, test) if path is not None]
        outputs = plan(output, "explain", endings=[".csv"], inputs=inputs, force=force)
        options = table_options(drop, only, weight, group, task, model, estimator)
        asked = Asked(target, row, query, test)
        opened = opening(run, outputs, source, lambda: open_asked(source, table, asked, options, seed, trust=trust))
        position = opened.query()
        facts = query_facts(opened, position)
        run.stage(f"scoring {opened.objective.n:,} training examples")
        influence = Influence(opened.objective)
        asked = opened.queries.take([position])
        names = [opened.query_ids[position]]
        found = attribute(influence, asked, top, query_ids=names, **correction(opened))
        by_token = tokens_of(run, opened, influence, found, position, tokens)
        # Among rows of a table there is no distance that means something: their columns have units of their own.
        distance = None if opened.model is not None else distance_of(opened, [position], found.attribution)
        page = make_report(opened, position, facts, found, by_token, distance, run.warnings, foot(seed))
        written = outputs.write({".csv": as_csv(all_scores(opened, found)), ".html": page.html()})
        show(
            run,
            opened,
            headline(opened, facts),
            _shown(opened, position, facts, found),
            *([] if by_token is None else [coloured(by_token)]),
            meaning(found.attribution.quantity, found.attribution.magnitude),
        )
        run.files = {"all scores": written[".csv"], "report": written[".html"]}
        run.result = said(source, opened, found.attribution.quantity, found.attribution.magnitude) | {
            "query": facts | {"values": values_at(opened.query_table, position)},
            "solver": "" if found.attribution.report is None else str(found.attribution.report),
            "damping": found.attribution.damping,
            "distance": None if distance is None else figures_of(distance),
            "helpful": _as_json(opened, found.helpful.positions[0].tolist(), found.helpful.scores[0].tolist()),
            "harmful": _as_json(opened, found.harmful.positions[0].tolist(), found.harmful.scores[0].tolist()),
            **({} if by_token is None else {"tokens": tokens_json(by_token)}),
        }


def all_scores(opened: sources.Source, found: Explanation) -> pd.DataFrame:
    """Every training example, the most helpful first: name, label, score, and the table's own columns."""
    import pandas as pd

    from upweight.cli.layout import beside

    scores = found.attribution.matrix[0].cpu().numpy()
    order = np.argsort(-scores * (found.attribution.quantity.helpful_sign or 1), kind="stable")
    shown = pd.DataFrame(
        {
            opened.noun: opened.objective.ids[order],
            "label": labels(opened, order.tolist()),
            f"score [{found.attribution.quantity.unit}]": scores[order],
        }
    )
    return beside(opened.with_lines(shown, order), opened.values, order)


def tokens_json(found: TokenExplanation) -> dict[str, Any]:
    """The query's tokens and the examples', each with its score, for machines."""
    return {
        "query": list(zip(found.tokens, found.query_scores.tolist(), strict=True)),
        "examples": [
            {"id": each.id, "tokens": list(zip(each.tokens, each.by_token.tolist(), strict=True))}
            for each in found.examples
        ],
        "remainder": dict(found.remainder),
    }


def query_facts(opened: sources.Source, position: int) -> dict[str, Any]:
    """The query in figures: its name, given label or value, prediction with probability, loss."""
    from upweight.predictions import named

    said = opened.predictions()
    facts: dict[str, Any] = {opened.noun: opened.query_ids[position], **opened.line_of_query(position)}
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


def headline(opened: sources.Source, facts: dict[str, Any]) -> str:
    """The query in a line."""
    from upweight.report.numbers import exact, readable

    words = f"{opened.title}, {opened.noun} {facts[opened.noun]}"
    if LINE in facts:
        words += f" (line {facts[LINE]})"
    if "value" in facts:
        words += f": {exact(facts['value'])}, predicted {readable(facts['predicted'], 6)}"
    elif "predicted" in facts:
        words += f": labelled {facts['label']!s}, predicted {facts['predicted']!s}"
    if "probability" in facts:
        words += f" (p = {facts['probability']:.3f})"
    return f"{words}; loss {readable(facts['loss'], 3)}"


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


def values_at(table: pd.DataFrame | None, position: int) -> dict[str, Any] | None:
    """What a table says of an example, by name; None without a table."""
    if table is None:
        return None
    row = table.iloc[[position]]
    return {str(name): value for name, value in row.astype(object).where(row.notna(), None).iloc[0].items()}


def _as_json(opened: sources.Source, positions: list[int], scores: list[float]) -> list[dict[str, Any]]:
    return [
        {
            opened.noun: opened.objective.ids[position],
            **opened.line_of(position),
            "position": position,
            "label": label,
            "score": score,
            "values": values_at(opened.train_table, position),
        }
        for position, score, label in zip(positions, scores, labels(opened, positions), strict=True)
    ]


def rows_of(opened: sources.Source, found: Explanation) -> list[tuple[str, int, float, Any]]:
    """Side, position, score and label of every example shown, the most helpful first, the most harmful last."""
    rows = []
    for side, ranking in (("helpful", found.helpful), ("harmful", found.harmful)):
        positions = ranking.positions[0].tolist()
        rows += list(
            zip([side] * len(positions), positions, ranking.scores[0].tolist(), labels(opened, positions), strict=True)
        )
    return rows


def query_label(opened: sources.Source, position: int, facts: dict[str, Any]) -> Any:
    """Its label as a CSV has it, of a study as its loss knows it; None where there is none."""
    if opened.model is not None and opened.query_table is not None:
        return opened.query_table.iloc[position].iloc[0]
    return facts.get("label")


def _shown(opened: sources.Source, position: int, facts: dict[str, Any], found: Explanation) -> Any:
    from upweight.cli.layout import table
    from upweight.report.numbers import signed

    columns = opened.weightiest(position)
    rows = rows_of(opened, found)
    labelled, lined = any(label is not None for *_, label in rows), opened.lines is not None
    body: list[list[Any]] = []
    if opened.query_table is not None:
        asked = opened.query_table.iloc[position]
        label = [query_label(opened, position, facts)] if labelled else []
        line = [opened.line_of_query(position).get(LINE)] * lined
        body.append(["query", opened.query_ids[position], *line, *label, "", *(asked.get(name) for name in columns)])
    for side, index, score, label in rows:
        values = [] if opened.values is None else list(opened.values.iloc[index][columns])
        name = [opened.objective.ids[index], *opened.line_of(index).values()]
        body.append([side, *name, *([label] if labelled else []), signed(score), *values])
    rules = [len(body) - len(rows) - 1, len(body) - len(rows) + found.helpful.positions.shape[1] - 1]
    unit = found.attribution.quantity.unit
    return table(
        "Most helpful and most harmful training examples",
        ["", opened.noun, *[LINE] * lined, *(["label"] if labelled else []), f"score [{unit}]", *columns],
        body,
        sections=rules,
    )
