"""`upweight select`: which training examples help most on a reference set?"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from upweight.data import Data
    from upweight.report import Report
    from upweight.tasks import Selection

SHOWN_IN_REPORT = 50


MOST_SCORES = 2**25
"""Scores that are held at once, 256 MiB of them: as many of the reference set are asked about."""


class Method(StrEnum):
    """The methods that need nothing but the model and the examples (`upweight.tasks.select`)."""

    influence = "influence"
    tracin = "tracin"
    trak = "trak"
    similarity = "similarity"
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
        float, typer.Option(min=0, max=1, help="How much likeness to examples chosen already counts against one.")
    ] = 0.0,
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
    with a report beside it.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.layout import magnitude_json, meaning, meaning_json, signed, table
        from upweight.cli.sources import open_rows
        from upweight.tasks import select as choose

        outputs = plan(output, "select", endings=[".csv", ".png"], inputs=[source, reference], force=force)
        options = table_options(drop, only, weight, group, task, model, estimator)
        run.stage(f"reading {source.name} and training")
        opened = open_rows(source, target, None, reference, seed, options)
        outputs.refuse_what_was_read()
        run.stage(f"scoring {opened.objective.n:,} examples by {method.value}")
        queries = bounded(opened, seed)
        found = choose(opened.objective, queries, k, method=method.value, diversity=diversity, seed=seed)
        frame = rows_of(found, opened)
        written = outputs.write(
            {
                ".csv": as_csv(frame),
                ".png": partial(found.figure().savefig, format="png", dpi=150),
                ".html": make_report(opened, found, frame, len(queries), run.warnings).html(),
            }
        )
        chosen_rows = found.to_pandas().head(top).to_dict("records")
        if not as_json:
            for note in opened.notes:
                run.note(note)
            run.show(
                f"{opened.title}: {len(found):,} of {opened.objective.n:,} {opened.noun}s chosen by {method.value} for "
                f"{len(queries):,} of the reference set.",
                table(
                    "Chosen first",
                    ["rank", opened.noun, "score"],
                    [(each["rank"], each["id"], signed(each["score"])) for each in chosen_rows],
                ),
                meaning(found.attribution.quantity, found.attribution.magnitude),
            )
        run.files = {"selection": written[".csv"], "figure": written[".png"], "report": written[".html"]}
        run.result = {
            "source": source,
            "method": method.value,
            "diversity": diversity,
            "chosen": len(found),
            "pool": opened.objective.n,
            "reference": len(queries),
            "notes": opened.notes,
            "columns": opened.columns,
            "quantity": meaning_json(found.attribution.quantity),
            "magnitude": magnitude_json(found.attribution.magnitude),
            "ids": found.ids.tolist(),
            "top": [{name: each[name] for name in ("rank", "id", "score")} for each in chosen_rows],
        }


def bounded(opened: sources.Source, seed: int) -> Data:
    """The reference set, or as many of its examples, drawn by chance, as scores fit memory; a warning says so."""
    import numpy as np

    from upweight.errors import UpweightWarning, warn

    count, most = len(opened.queries), max(MOST_SCORES // opened.objective.n, 1)
    if count <= most:
        return opened.queries
    warn(
        f"reference: {most:,} of its {count:,} {opened.noun}s were drawn by chance (seed {seed}), so that the scores "
        f"of {opened.objective.n:,} {opened.noun}s fit memory",
        UpweightWarning,
    )
    drawn = np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    return opened.objective.queries(opened.queries.take(drawn.tolist()))


def rows_of(found: Selection, opened: sources.Source) -> pd.DataFrame:
    """The chosen examples, the best first: rank, name, position, score, and the table's own columns."""
    import pandas as pd

    shown = found.to_pandas().rename(columns={"id": opened.noun})
    if opened.train_table is None:
        return shown
    values = opened.train_table.iloc[found.positions].reset_index(drop=True)
    values.columns = [f"{name} (column)" if name in shown.columns else name for name in values.columns]
    return pd.concat([shown, values], axis=1)


def make_report(
    opened: sources.Source, found: Selection, frame: pd.DataFrame, reference: int, warnings: list[str]
) -> Report:
    """The page: what was chosen from what, the scores of all, the first chosen with their values."""
    from upweight.cli.layout import frame_block, meaning_block
    from upweight.report import Facts, Figure, Report, Text, Warnings

    facts = {
        "chosen": len(found),
        "pool": opened.objective.n,
        "reference set": reference,
        "method": found.method,
        "diversity": found.diversity,
        "helpful examples in the pool": int((found.scores > 0).sum()),
    }
    notes = [Text("\n\n".join(f"Note: {note}." for note in opened.notes))] if opened.notes else []
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
        .section("Chosen first", frame_block(first, f"The first {len(first)} of {len(found):,} chosen."))
        .section("The model", Facts(opened.facts), *opened.columns_block(), *notes)
    )
