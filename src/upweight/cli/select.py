"""`upweight select`: which training examples help most on a reference set?"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.opening import opening, said, show
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
    Quiet,
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
    from upweight.report import Report
    from upweight.tasks import Selection, Variety

SHOWN_IN_REPORT = 50
MOST_SCORES = 2**25
"""Scores that are held at once, 256 MiB of them: as many of the reference set are asked about."""


class Method(StrEnum):
    """The methods that need no more than the model, the examples and their texts (`upweight.tasks.select`)."""

    influence = "influence"
    tracin = "tracin"
    trak = "trak"
    similarity = "similarity"
    bm25 = "bm25"
    random = "random"


def select(
    source: Source,
    k: Annotated[int, typer.Option("-k", "--count", min=1, help="How many to choose.", show_default=False)],
    target: Target = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="CSV: another file, of what the model should be good at; all of SOURCE is chosen from."),
    ] = None,
    method: Annotated[Method, typer.Option("--method", "-m", help="How examples are scored.")] = Method.influence,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, help="How much variety to examples chosen already counts against one.")
    ] = 0.0,
    text: Annotated[
        str | None,
        typer.Option(help="For bm25: the column that holds the texts (default: text, or the only one of text)."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Also write the chosen examples as a data set of the pool's kind: of a CSV .csv; of a study .pt, or "
            ".jsonl, .parquet or .csv where its examples are rows."
        ),
    ] = None,
    top: Top = 10,
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
    """Choose the training examples that help most on a reference set.

    A study's queries are the reference set, its training examples the pool. Of a CSV, a fifth is the reference set (or
    --reference), and a logistic model is trained on the rest, the pool. The choice goes to select.csv, the best first,
    with a report beside it, and with --export as a data set of the pool's kind.
    """
    with session(as_json, quiet) as run:
        from upweight import files
        from upweight.cli.export import exported, plan_export
        from upweight.cli.layout import meaning, png, table
        from upweight.cli.sources import open_rows
        from upweight.report.numbers import signed
        from upweight.tasks import select as choose

        read = [path for path in (source, reference) if path is not None]
        outputs = plan(output, "select", endings=[".csv", ".png"], inputs=read, force=force)
        place = None if export is None else plan_export(export, source, read, outputs, force)
        options = table_options(drop, only, weight, group, task, model, estimator)
        opened = opening(run, outputs, source, lambda: open_rows(source, target, None, reference, seed, options))
        run.stage(f"scoring {opened.objective.n:,} examples by {method.value}")
        asked = bounded(opened, seed)
        queries = opened.queries if asked is None else opened.objective.queries(opened.queries.take(asked))
        found = choose(
            opened.objective,
            queries,
            k,
            method=method.value,
            diversity=diversity,
            seed=seed,
            **texts(opened, method, text, asked),
        )
        varied = found.variety(seed=seed) if len(found) > 1 else None
        frame = rows_of(found, opened)
        content = None if place is None else exported(found, opened, place)
        written = outputs.write(
            {
                ".csv": as_csv(frame),
                ".png": png(found.figure()),
                ".html": make_report(opened, found, frame, varied, len(queries), run.warnings).html(),
            }
        )
        if place is not None and content is not None:
            outputs.refuse_read(place, "--export")
            files.write(outputs.start / place, content, replace=force)
        chosen_rows = found.to_pandas().head(top).to_dict("records")
        show(
            run,
            opened,
            f"{opened.title}: {len(found):,} of {opened.objective.n:,} {opened.noun}s chosen by {method.value} for "
            f"{len(queries):,} of the reference set.",
            table(
                "Chosen first",
                ["rank", opened.noun, "score"],
                [(each["rank"], each["id"], signed(each["score"])) for each in chosen_rows],
            ),
            *([] if varied is None else [f"Chosen are {varied}."]),
            meaning(found.attribution.quantity, found.attribution.magnitude),
        )
        run.files = {"selection": written[".csv"], "figure": written[".png"], "report": written[".html"]}
        if place is not None:
            run.files["data set"] = place
        run.result = said(source, opened, found.attribution.quantity, found.attribution.magnitude) | {
            "method": method.value,
            "diversity": diversity,
            "variety": None if varied is None else asdict(varied),
            "chosen": len(found),
            "pool": opened.objective.n,
            "reference": len(queries),
            "ids": found.ids.tolist(),
            "top": [{name: each[name] for name in ("rank", "id", "score")} for each in chosen_rows],
        }


def bounded(opened: sources.Source, seed: int) -> list[int] | None:
    """As many positions of the reference set, drawn by chance, as scores fit memory, and a warning; None: all fit."""
    import numpy as np

    from upweight.errors import UpweightWarning, warn

    count, most = len(opened.queries), max(MOST_SCORES // opened.objective.n, 1)
    if count <= most:
        return None
    warn(
        f"reference: {most:,} of its {count:,} {opened.noun}s were drawn by chance (seed {seed}), so that the scores "
        f"of {opened.objective.n:,} {opened.noun}s fit memory",
        UpweightWarning,
    )
    drawn: list[int] = np.sort(np.random.default_rng(seed).choice(count, most, replace=False)).tolist()
    return drawn


def texts(opened: sources.Source, method: Method, column: str | None, asked: list[int] | None) -> dict[str, Any]:
    """What BM25 reads: the texts of the pool, and of the examples of the reference set that are asked about."""
    from upweight.cli.texts import texts_of

    if method is not Method.bm25:
        if column is not None:
            raise typer.BadParameter("--text is for --method bm25; the other methods read no words")
        return {}
    pool = texts_of(opened.train_table, column, "the pool")
    reference = texts_of(opened.query_table, column, "the reference set")
    return {
        "texts": pool,
        "reference_texts": reference if asked is None else [reference[position] for position in asked],
    }


def rows_of(found: Selection, opened: sources.Source) -> pd.DataFrame:
    """The chosen examples, the best first: rank, name, position, score, and the table's own columns."""
    from upweight.cli.layout import beside

    frame = opened.with_lines(found.to_pandas().rename(columns={"id": opened.noun}), found.positions)
    return beside(frame, opened.train_table, found.positions)


def make_report(
    opened: sources.Source,
    found: Selection,
    frame: pd.DataFrame,
    varied: Variety | None,
    reference: int,
    warnings: list[str],
) -> Report:
    """The page: what was chosen from what, the scores of all, the first chosen with their values."""
    from upweight.cli.layout import frame_block, meaning_block
    from upweight.report import Facts, Figure, Report, Warnings

    facts = {
        "chosen": len(found),
        "pool": opened.objective.n,
        "reference set": reference,
        "method": found.method,
        "diversity": found.diversity,
        "helpful examples in the pool": int((found.scores > 0).sum()),
    }
    if varied is not None:
        facts |= {
            "different directions of gradients": varied.directions,
            "the same among the best scores": varied.best,
            "the same among random examples": varied.random,
            "chosen with a double": varied.doubles,
        }
    first = frame.head(SHOWN_IN_REPORT).drop(columns="position")
    return (
        Report(f"Selection: {opened.title}", f"{len(found):,} of {opened.objective.n:,} {opened.noun}s.")
        .section("The choice", Facts(facts), Warnings(warnings))
        .section(
            "All examples of the pool",
            meaning_block(found.attribution.quantity, found.attribution.magnitude),
            Figure(
                found.figure(),
                "How much the examples of the pool help on the reference set.",
                f"Distribution of the scores of {opened.objective.n:,} examples",
            ),
        )
        .section("Chosen first", frame_block(first, f"The first {len(first):,} of {len(found):,} chosen."))
        .section("The model", *opened.blocks())
    )
