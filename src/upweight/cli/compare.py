"""`upweight compare`: what do two models on the same data learn the same prediction from?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.opening import opening
from upweight.cli.options import FOLDER, AsJson, Force, Output, Query, Quiet, Top
from upweight.cli.outputs import plan
from upweight.cli.session import session
from upweight.cli.study_file import refuse_other

if TYPE_CHECKING:
    from upweight.cli.source import Source
    from upweight.report import Report
    from upweight.tasks import Comparison

Studies = Annotated[
    list[Path], typer.Argument(help="Two or more study files of the same examples, each with its model.")
]
COLUMNS = ("model", "ρ", "ρ among influential", "same class of 20", "right")


def compare(
    studies: Studies,
    query: Query = None,
    top: Top = 5,
    output: Output = FOLDER,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare models by their influences: is what helps near the query, and of its class?

    Distances are taken between the pictures of the first study, or between its model's inputs. The query is the worst
    mistake of the first model unless --query says which; the figures are means over all queries.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.layout import table
        from upweight.cli.sources import open_source
        from upweight.errors import InputError
        from upweight.tasks import compare_models

        if len(studies) < 2 or len({path.name for path in studies}) < len(studies):
            raise InputError(f"studies: give two or more files of different names; got {list(map(str, studies))}")
        outputs = plan(output, "compare", inputs=studies, force=force)
        for path in studies:
            refuse_other(path)
        opened = {}
        for path in studies:
            opened[path.name] = opening(run, outputs, path, partial(open_source, path, None, None, query, 0))
        first = next(iter(opened.values()))
        position = first.query()
        run.stage("scoring")
        inputs, asked = _inputs(first)
        found = compare_models(
            {name: source.objective for name, source in opened.items()},
            {name: source.queries for name, source in opened.items()},
            inputs,
            asked,
            k=top,
            query_ids=first.query_ids.tolist(),
        )
        written = outputs.write({".html": make_report(found, opened, position, run.warnings).html()})
        rows = summary_rows(found)
        if not as_json:
            run.show(table(f"Means over {len(first.queries)} queries", COLUMNS, rows))
        run.files = {"report": written[".html"]}
        run.result = {
            "query": first.query_ids[position],
            "models": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
        }


def _inputs(source: Source) -> tuple[Any, Any]:
    from upweight.cli.distance import numbers

    if source.images is None or source.query_images is None:
        return numbers(source.objective.data), numbers(source.queries)
    return source.images, source.query_images


def summary_rows(found: Comparison) -> list[list[Any]]:
    """One row per model, as in ``COLUMNS``."""
    fields = ["rho_influence_distance", "rho_among_influential", "same_class_share", "right"]
    summary = found.summary()
    return [[name, *summary.loc[name, fields].to_numpy(dtype=float).tolist()] for name in found.models]


def make_report(found: Comparison, opened: dict[str, Source], position: int, warnings: list[str]) -> Report:
    """The page: the means, and for one query the scatter and the helpful and harmful examples of each model."""
    import numpy as np

    from upweight.cli.distance import WORDS, distance_figure
    from upweight.cli.explain import labels
    from upweight.report import Images, Report, Table, Text, Warnings

    page = Report(
        "What did they learn it from?", f"{' and '.join(found.models)}, by the influence of the same examples."
    )
    page = page.section(
        "All queries",
        Text(WORDS),
        Table(list(COLUMNS), summary_rows(found), "Means over the queries."),
        Warnings(warnings),
    )
    for name, model in found.models.items():
        source, explanation = opened[name], model.explanation
        blocks: list[Any] = [
            distance_figure(
                model.distance.row(position), source.class_names, explanation.attribution.quantity.unit, str(name)
            )
        ]
        if source.images is not None:
            sides = [("helpful", explanation.helpful), ("harmful", explanation.harmful)]
            shown = [
                (side, int(place), float(score))
                for side, ranking in sides
                for place, score in zip(ranking.positions[position], ranking.scores[position], strict=True)
            ]
            words = labels(source, [place for _, place, _ in shown])
            blocks.append(
                Images(
                    [np.asarray(source.images[place]) for _, place, _ in shown],
                    [f"{place} ({word}): {score:+.3g}" for (_, place, score), word in zip(shown, words, strict=True)],
                    [side for side, _, _ in shown],
                    "The most helpful and most harmful training examples.",
                )
            )
        page = page.section(f"{name}, {source.noun} {source.query_ids[position]}", *blocks)
    return page
