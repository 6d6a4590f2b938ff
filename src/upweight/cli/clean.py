"""`upweight clean`: apply what was decided on a page to a copy of the data, train again, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from upweight.cli.job_options import Store, place_of
from upweight.cli.options import FOLDER, AsJson, Force, Output, Quiet
from upweight.cli.outputs import TABLES, plan
from upweight.cli.session import Session, session
from upweight.names import LINE

if TYPE_CHECKING:
    from upweight.cli.cleaning import Cleaning
    from upweight.explore.cleaned import Cleaned, Figure
    from upweight.explore.contents import Contents
    from upweight.report import Report

LISTED = 1000
"""Changes that the report lists."""


def clean(
    store: Store,
    output: Output = FOLDER,
    retrain: Annotated[bool, typer.Option("--retrain/--no-retrain", help="Train again and compare, or only write the data.")] = True,  # noqa: E501
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Apply the decisions of a store to a copy of its data, train the model again, and compare on held-out examples.

    The study file or CSV that the store was made of is read again and stays as it is. What is written: the cleaned
    data, and a report with accuracy and loss before and after, with intervals. Decisions stay in the store.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.cleaning import ARRAYS, cleaned, origin_of
        from upweight.errors import InputError
        from upweight.explore.contents import Contents
        from upweight.optional import require

        require("explore", "upweight clean", "pyarrow")
        contents = Contents(place_of(store))
        if not contents.decisions.standing():
            raise InputError(
                f"{contents.place}: nothing is decided there; `upweight explore {contents.place}` is where to"
            )
        contents.decisions.compact()
        origin = origin_of(contents)
        outputs = plan(output, "clean", endings=[*TABLES, ARRAYS], inputs=[Path(origin.path)], force=force)
        found = cleaned(run, contents, origin)
        outputs.refuse_what_was_read()
        written = outputs.write(found.contents)
        data = next(path for ending, path in written.items() if ending != ARRAYS)
        kept = f"the decisions are kept, and the cleaned data are in {data}"
        figures = _figures(run, found, kept) if retrain else ()
        files = {
            "cleaned arrays" if ending == ARRAYS else "cleaned data": str(path) for ending, path in written.items()
        }
        notes = (*found.notes, *found.of_training * retrain, *_held_out(found, figures))
        answer = contents.display.train.answer
        came = _came(found, figures, notes, files, answer)
        page = _report(contents, found, came, run.warnings)
        # the data are in their places by now; the report goes beside them
        report = outputs.report
        from upweight import files as writing

        writing.write(outputs.start / report, page.html())
        came = _came(found, figures, notes, {**files, "report": str(report)}, answer)
        came.keep(contents.place)
        if not as_json:
            _show(run, found, came)
        run.files = {name: Path(path) for name, path in came.files.items()}
        run.result = {
            "store": str(contents.place),
            "relabelled": len(found.relabelled),
            "excluded": len(found.excluded),
            "retrained": bool(figures),
            "verdict": came.verdict,
            "figures": [_figure_json(each) for each in figures],
            "notes": list(notes),
        }


def _came(
    found: Cleaning, figures: tuple[Figure, ...], notes: tuple[str, ...], files: dict[str, str], answer: str
) -> Cleaned:
    from upweight.explore.cleaned import Cleaned, now

    return Cleaned(now(), len(found.relabelled), len(found.excluded), figures, notes, files, answer)


def _figures(run: Session, found: Cleaning, kept: str) -> tuple[Figure, ...]:
    """Figures on the held-out examples, of the model on the data as they are and on the cleaned ones."""
    from upweight.cli.cleaning import training_told
    from upweight.cli.standard_output import streams_kept
    from upweight.explore.cleaned import ACCURACY, compared

    if found.before is None or found.after is None:
        return ()
    with training_told(kept), streams_kept():
        run.stage("training on the data as they are")
        before = found.before()
        run.stage("training on the cleaned data")
        after = found.after()
    finite = [name for name in before if np.isfinite([before[name], after[name]]).all()]
    return tuple(compared(name, before[name], after[name], higher_is_better=name == ACCURACY) for name in finite)


def _held_out(found: Cleaning, figures: tuple[Figure, ...]) -> tuple[str, ...]:
    if not figures:
        return ()
    return (
        f"Held out: {found.held_out}. Those that the page showed are among them: what was decided because of one of "
        "them flatters the comparison.",
    )


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "before": figure.before,
        "after": figure.after,
        "change": figure.change,
        "interval": [figure.low, figure.high],
        "verdict": figure.verdict,
    }


def _show(run: Session, found: Cleaning, came: Cleaned) -> None:
    from upweight.cli.layout import table

    run.show(f"{came.changes}, of a copy of the data.")
    if came.figures:
        run.show(
            table(
                "Held-out examples",
                ["", "before", "after", "change", "95 % interval of the change"],
                [each.words for each in came.figures],
            )
        )
    run.show(came.verdict)
    for note in came.notes:
        run.note(note)


def _report(contents: Contents, found: Cleaning, came: Cleaned, warnings: list[str]) -> Report:
    from upweight.cli.layout import foot
    from upweight.explore.view import said
    from upweight.report import Facts, Report, Table, Text, Warnings

    train, answer = contents.display.train, contents.display.train.answer
    standing = contents.decisions.standing()
    has_lines = LINE in train.facts
    rows = [
        [
            train.ids[position],
            *([train.fact(LINE, position)] * has_lines),
            said(each),
            each.old,
            each.new if each.what == "relabel" else "",
            each.who,
            each.when,
        ]
        for position, each in sorted(standing.items())
    ]
    page = Report(f"Cleaning {contents.display.title}", came.verdict, foot())
    compared = [
        Table(
            ["on held-out examples", "before", "after", "change", "95 % interval of the change", "verdict"],
            [[*each.words, each.verdict] for each in came.figures],
            "Before: trained on the data as they are; after: on the cleaned ones, by the same training. Intervals: "
            "of accuracy exact, by the examples that changed sides; of others by examples resampled in pairs.",
        )
    ]
    page = page.section(
        "Before and after", *compared * bool(came.figures), Text("\n\n".join(came.notes) or came.verdict),
        Warnings(warnings),
    )  # fmt: skip
    counts = {
        "training examples": len(train), "relabelled": len(found.relabelled), "left out": len(found.excluded),
        "kept after a look": sum(each.what == "keep" for each in standing.values()), "store": str(contents.place),
    }  # fmt: skip
    shown = rows[:LISTED]
    more = f" The first {LISTED:,} of {len(rows):,}; all are in the store's decisions.parquet." * (len(rows) > LISTED)
    return page.section(
        "What was decided",
        Facts(counts),
        Table(
            ["id", *([LINE] * has_lines), "decision", f"{answer} before", f"{answer} now", "who", "when (UTC)"],
            shown,
            f"Decisions that stand.{more}",
        ),
    )
