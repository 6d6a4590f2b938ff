"""`upweight label-errors`: which rows of a CSV probably carry a wrong label?"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.options import FOLDER, AsJson, Output, Quiet, Seed, Top, report_path
from upweight.cli.session import session

if TYPE_CHECKING:
    import pandas as pd

    from upweight.report import Report
    from upweight.tabular import Logistic
    from upweight.tasks import LabelErrors

EVIDENCE = 3
SHOWN_IN_REPORT = 50


def label_errors(
    file: Annotated[Path, typer.Argument(help="A CSV file with a header line.", show_default=False)],
    target: Annotated[str, typer.Option("--target", "-t", help="The column that holds the class.", show_default=False)],
    top: Top = 20,
    output: Output = FOLDER,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank the rows of a CSV by how probably their label is wrong.

    Trains a logistic model (its penalty chosen by cross-validation), asks for every row what the model would say
    had it never seen that row, and writes all rows, the most suspicious first, to label-errors.csv, with a report
    beside it.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.layout import meaning, meaning_json
        from upweight.cli.sources import model_facts
        from upweight.tabular import read_labelled, train_logistic
        from upweight.tasks import label_errors as find

        table = read_labelled(file, target)
        run.stage(f"training on {len(table):,} rows of {file.name}, the penalty chosen by cross-validation")
        model = train_logistic(table, seed=seed)
        run.stage("asking of every row what the model says without it")
        errors = find(model.objective, class_names=table.classes)
        frame = ranked(errors, model)
        evidence = speaking_against(errors, model, top)
        path = report_path(output, "label-errors")
        csv = path.with_suffix(".csv")
        page = make_report(file.name, errors, model, frame, evidence, run.warnings).save(path)
        write_csv(frame, csv)
        if not as_json:
            for note in model.notes:
                run.note(note)
            facts = model_facts(model)
            run.show(
                f"{facts['rows trained on']:,} rows, {facts['classes']} classes; the model is right on "
                f"{facts['accuracy, cross-validated']:.1%} of rows it has not seen (largest class: "
                f"{facts['share of the largest class']:.1%}); λ = {facts['λ (l2 of the weights)']:.2g}",
                _shown(errors, evidence, top, target),
                meaning(errors.attribution.quantity),
            )
        run.files = {"all rows": csv, "report": page}
        run.result = {
            "file": file,
            "target": target,
            "classes": table.classes,
            "model": model_facts(model),
            "notes": model.notes,
            "method": errors.method,
            "quantity": meaning_json(errors.attribution.quantity),
            "suspicious": errors.suspicious,
            "top": [
                row | {"evidence": evidence[row["id"]]}
                for row in errors.top(top).drop(columns="position").to_dict("records")
            ],
        }


def ranked(errors: LabelErrors, model: Logistic) -> pd.DataFrame:
    """All rows, the most suspicious first: rank, row, labels, score, and the table's own columns."""
    import pandas as pd

    found = errors.to_pandas()
    values = model.table.features.iloc[found["position"].to_numpy()].reset_index(drop=True)
    shown = found.drop(columns="position").rename(columns={"id": "row"})
    values.columns = [f"{name} (column)" if name in shown.columns else name for name in values.columns]
    return pd.concat([shown, values], axis=1)


def speaking_against(errors: LabelErrors, model: Logistic, k: int) -> dict[Any, list[dict[str, Any]]]:
    """For each of the k most suspicious rows, the rows that contradict its label most."""
    ranking = errors.evidence(k, EVIDENCE)
    labels = dict(zip(model.table.rows.tolist(), model.table.labels.tolist(), strict=True))
    return {
        query: [
            {"row": row, "label": model.table.classes[labels[row]], "score": score}
            for row, score in zip(rows, scores, strict=True)
        ]
        for query, rows, scores in zip(
            ranking.query_ids.tolist(), ranking.ids.tolist(), ranking.scores.tolist(), strict=True
        )
    }


def _shown(errors: LabelErrors, evidence: dict[Any, list[dict[str, Any]]], top: int, target: str) -> Any:
    from upweight.cli.layout import table

    title = f"Most suspicious labels ({errors.suspicious:,} of {len(errors.order):,} differ from the model's)"
    return table(
        title,
        ["row", target, "suggested", "p(given)", "score", "rows that speak against it"],
        [
            (
                row["id"],
                row["given"],
                row["suggested"] if row["suspicious"] else "as given",
                f"{row['p_given']:.3f}",
                float(row["score"]),
                ", ".join(str(other["row"]) for other in evidence[row["id"]]),
            )
            for row in errors.top(top).to_dict("records")
        ],
    )


def make_report(
    name: str,
    errors: LabelErrors,
    model: Logistic,
    frame: pd.DataFrame,
    evidence: dict[Any, list[dict[str, Any]]],
    warnings: list[str],
) -> Report:
    """The page: the model, the most suspicious rows with their values, what speaks against them, all scores."""
    from upweight import plots
    from upweight.cli.layout import frame_block, meaning_block
    from upweight.cli.sources import model_facts
    from upweight.report import Facts, Figure, Report, Table, Text, Warnings

    quantity = errors.attribution.quantity
    histogram = plots.score_histogram(errors.attribution.scores, unit=quantity.unit, quantity=quantity.name)
    shown = frame.head(SHOWN_IN_REPORT)
    against = [
        (row, other["row"], other["label"], other["score"]) for row, others in evidence.items() for other in others
    ]
    notes = [Text("\n\n".join(f"Note: {note}." for note in model.notes))] if model.notes else []
    return (
        Report(
            f"Label errors in {name}",
            f"{errors.suspicious:,} of {len(frame):,} rows have another label than the model would give them had it "
            "never seen them. Not each of these is an error: the model is wrong too. Check from the top, and stop "
            "where the labels are right.",
        )
        .section("The model", Facts(model_facts(model)), *notes, Warnings(warnings))
        .section(
            "The most suspicious rows",
            meaning_block(quantity),
            frame_block(
                shown,
                f"The {len(shown)} most suspicious of {len(frame):,} rows. row: counted from 0 under the header; "
                "p_given, p_suggested: the model's probability of the label, without the row.",
            ),
        )
        .section(
            "What speaks against them",
            Table(
                ["suspicious row", "row", "its label", "change of the suspicious row's loss without it [nats]"],
                against,
                "Left out of training, these rows would make the loss of the suspicious row's label fall most.",
            ),
        )
        .section(
            "All scores",
            Figure(
                histogram, "The scores of all rows.", f"Histogram of the {quantity.name} of all {len(frame):,} rows"
            ),
        )
    )


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        frame.to_csv(draft, index=False)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
