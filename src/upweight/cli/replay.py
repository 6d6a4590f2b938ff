"""`upweight replay`: exact derivatives of a study's training by the weight of every training example."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.job_options import StudyFile
from upweight.cli.options import FOLDER, LARGEST_SEED, AsJson, Force, Output, Quiet, Top
from upweight.cli.outputs import plan
from upweight.cli.session import session
from upweight.spreadsheets import as_csv

if TYPE_CHECKING:
    import pandas as pd

    from upweight.attribution import Attribution
    from upweight.replay import Replay
    from upweight.report import Report
    from upweight.study import Study

SHOWN = 20
"""Queries in the report."""


def replay(
    study: StudyFile,
    first: Annotated[
        int | None, typer.Option(min=1, help="Explain so many of the study's queries, from the first (default: all).")
    ] = None,
    weight: Annotated[
        float, typer.Option(min=0, help="Train, and differentiate, with every weight times this: 0.5 for halves.")
    ] = 1.0,
    seeds: Annotated[
        list[int] | None,
        typer.Option(
            "--seed", min=0, max=LARGEST_SEED, help="Of a training; repeat it for the mean over several (default: the "
            "declared one)."
        ),
    ] = None,
    measurement: Annotated[
        str, typer.Option(help="What is explained of a query: loss, margin or log-probability.")
    ] = "loss",
    store: Annotated[
        str | None,
        typer.Option(help="Keep states and passes here, a folder or a URL: the same command goes on after a kill."),
    ] = None,
    smoothness: Annotated[
        bool, typer.Option(help="Train twice more to see whether the training is smooth in its weights.")
    ] = True,
    top: Top = 5,
    output: Output = FOLDER,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Train as a study file declares it, and say what each training example did to its queries, step by step.

    The file defines study() and replay(), which returns upweight.Replay(model, loss, data, optimizer=…, …). Scores go
    to replay.csv, a row for each training example and a column for each query, with a report beside it.
    """
    with session(as_json, quiet) as run:
        from upweight import scalars
        from upweight.cli.layout import magnitude_json, meaning, meaning_json, table
        from upweight.cli.study_file import read_replay
        from upweight.report.numbers import signed

        scalars.number("--weight", weight, above=0)
        scalars.one_of("--measurement", measurement, ("loss", "margin", "log-probability"))
        outputs = plan(output, "replay", endings=[".csv"], inputs=[study], force=force)
        run.stage(f"reading {study.name}")
        opened, declared = read_replay(study, store)
        outputs.refuse_what_was_read()
        found = attributed(opened, declared, first, weight, seeds, measurement, smoothness, run.stage)
        page = make_report(study.stem, found, run.warnings)
        written = outputs.write({".csv": as_csv(rows_of(found)), ".html": page.html()})
        best, worst = found.top(top), found.bottom(top)
        if not as_json:
            pairs = zip(best.ids[0], best.scores[0].tolist(), worst.ids[0], worst.scores[0].tolist(), strict=True)
            run.show(
                f"{study.stem}: {found.scores.shape[0]:,} queries, {found.scores.shape[1]:,} training examples; "
                f"{found.report}.",
                table(
                    f"Query {found.query_ids[0]}",
                    ["most helpful", "score", "most harmful", "score"],
                    [(name, signed(score), other, signed(least)) for name, score, other, least in pairs],
                ),
                meaning(found.quantity, found.magnitude),
            )
        run.files = {"scores": written[".csv"], "report": written[".html"]}
        run.result = {
            "source": study,
            "quantity": meaning_json(found.quantity),
            "magnitude": magnitude_json(found.magnitude),
            "facts": found.facts,
            "queries": found.query_ids.tolist(),
            "helpful": [_pairs(*each) for each in zip(best.ids, best.scores.tolist(), strict=True)],
            "harmful": [_pairs(*each) for each in zip(worst.ids, worst.scores.tolist(), strict=True)],
        }


def attributed(
    study: Study,
    declared: Replay,
    first: int | None,
    weight: float,
    seeds: list[int] | None,
    measurement: str,
    smoothness: bool,
    said: Callable[[str], None],
) -> Attribution:
    """The scores that the options ask for."""
    data = declared.untrained.queries(study.queries)
    names = study.query_ids
    count = len(data) if first is None else min(first, len(data))
    said(f"training, and {count:,} queries in reverse")
    asked = data if count == len(data) else data.take(list(range(count)))
    return declared.attribute(
        asked,
        measurement,
        weight=weight,
        seeds=seeds or None,
        query_ids=None if names is None else list(names)[:count],
        smoothness=smoothness,
    )


def rows_of(found: Attribution) -> pd.DataFrame:
    """A row for each training example: its name, and its score for each query."""
    frame = found.to_pandas().T
    frame.columns = [f"query {name}" for name in frame.columns]
    return frame.rename_axis("example").reset_index()


def make_report(title: str, found: Attribution, warnings: list[str]) -> Report:
    """The page: what was done, and the most helpful and most harmful examples of the first queries."""
    import pandas as pd

    from upweight.cli.layout import frame_block, meaning_block
    from upweight.report import Facts, Report, Warnings

    rows = [
        {"query": name, "most helpful": best, "score": score, "most harmful": worst, "score ": least}
        for name, best, score, worst, least in zip(
            found.query_ids,
            found.top(1).ids[:, 0],
            found.top(1).scores[:, 0].tolist(),
            found.bottom(1).ids[:, 0],
            found.bottom(1).scores[:, 0].tolist(),
            strict=True,
        )
    ]
    shown = pd.DataFrame(rows[:SHOWN])
    return (
        Report(f"Replay: {title}", str(found.report))
        .section("The training", Facts(found.facts), Warnings(warnings))
        .section(
            "Training examples and queries",
            meaning_block(found.quantity, found.magnitude),
            frame_block(shown, f"The first {len(shown):,} of {len(rows):,} queries."),
        )
    )


def _pairs(names: Iterable[Any], scores: Iterable[float]) -> list[dict[str, Any]]:
    return [{"id": name, "score": score} for name, score in zip(names, scores, strict=True)]
