"""`upweight label-errors`: which training examples probably carry a wrong label?"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from upweight.cli.opening import opening, said, show
from upweight.cli.options import (
    FOLDER,
    AsJson,
    Drop,
    Force,
    Only,
    Output,
    Quiet,
    Seed,
    Source,
    Target,
    Top,
    chosen,
)
from upweight.cli.outputs import plan
from upweight.cli.session import session
from upweight.cli.spreadsheet import as_csv

if TYPE_CHECKING:
    import pandas as pd

    from upweight.cli import sources
    from upweight.report import Report
    from upweight.tasks import LabelErrors

EVIDENCE = 3
SHOWN_IN_REPORT = 50
PICTURED = 12


class Method(StrEnum):
    """The scores that the command line offers (`upweight.tasks.label_scores`)."""

    out_of_sample = "out-of-sample"
    margin = "margin"
    relative = "relative"
    leverage_corrected = "leverage-corrected"
    self_influence = "self-influence"
    loss = "loss"


def label_errors(
    source: Source,
    target: Target = None,
    method: Annotated[Method, typer.Option("--method", "-m", help="How labels are scored.")] = Method.out_of_sample,
    top: Top = 20,
    drop: Drop = None,
    only: Only = None,
    output: Output = FOLDER,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank training examples by how probably their label is wrong.

    Of a CSV, a logistic model is trained on all rows (its penalty chosen by cross-validation); of a study file its own
    model is asked. For every example: what would the model say had it never seen it? All examples, the most suspicious
    first, go to label-errors.csv, with a report beside it.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.layout import meaning
        from upweight.cli.sources import open_training
        from upweight.tasks import label_errors as find

        outputs = plan(output, "label-errors", endings=[".csv"], inputs=[source], force=force)
        opened = opening(run, outputs, source, lambda: open_training(source, target, seed, chosen(drop, only)))
        run.stage(f"scoring {opened.objective.n:,} labels: {method.value}")
        errors = find(opened.objective, method=method.value, class_names=opened.class_names)
        frame = ranked(errors, opened)
        evidence = speaking_against(errors, top)
        page = make_report(opened, errors, frame, evidence, run.warnings)
        written = outputs.write({".csv": as_csv(frame), ".html": page.html()})
        show(
            run,
            opened,
            _headline(opened),
            _shown(opened, errors, evidence, top, target or "label"),
            meaning(errors.attribution.quantity, errors.attribution.magnitude),
        )
        run.files = {f"all {opened.noun}s": written[".csv"], "report": written[".html"]}
        run.result = said(source, opened, errors.attribution.quantity, errors.attribution.magnitude) | {
            "target": target,
            "classes": opened.class_names,
            "model": opened.facts,
            "method": errors.method,
            "solver": repr(errors.influence.inverse),
            "suspicious": errors.suspicious,
            "top": [
                row | {"evidence": evidence[row["id"]]}
                for row in errors.top(top).drop(columns="position").to_dict("records")
            ],
        }


def ranked(errors: LabelErrors, opened: sources.Source) -> pd.DataFrame:
    """All examples, the most suspicious first: rank, name, labels, score, and the table's own columns."""
    from upweight.cli.layout import beside

    found = errors.to_pandas()
    shown = found.drop(columns="position").rename(columns={"id": opened.noun})
    return beside(shown, opened.values, found["position"].to_numpy())


def speaking_against(errors: LabelErrors, k: int) -> dict[Any, list[dict[str, Any]]]:
    """For each of the k most suspicious examples, the ones that contradict its label most."""
    from upweight.predictions import named

    ranking = errors.evidence(k, EVIDENCE)
    labels = named(errors.predictions.given, errors.class_names)
    return {
        query: [
            {"id": name, "position": position, "label": labels[position], "score": score}
            for name, position, score in zip(names, positions, scores, strict=True)
        ]
        for query, names, positions, scores in zip(
            ranking.query_ids.tolist(),
            ranking.ids.tolist(),
            ranking.positions.tolist(),
            ranking.scores.tolist(),
            strict=True,
        )
    }


def _headline(opened: sources.Source) -> str:
    facts = opened.facts
    if opened.model is None:
        return f"{opened.title}: {facts['model']}, {opened.objective.n:,} training examples"
    return (
        f"{facts['rows trained on']:,} rows, {facts['classes']} classes; the model is right on "
        f"{facts['accuracy, cross-validated']:.1%} of rows it has not seen (largest class: "
        f"{facts['share of the largest class']:.1%}); λ = {facts['λ (l2 of the weights)']:.2g}"
    )


def _shown(
    opened: sources.Source, errors: LabelErrors, evidence: dict[Any, list[dict[str, Any]]], top: int, target: str
) -> Any:
    from upweight.cli.layout import table

    title = f"Most suspicious labels ({errors.suspicious:,} of {len(errors.order):,} differ from the model's)"
    rows = errors.top(top).to_dict("records")
    probable = bool(rows) and "p_given" in rows[0]
    return table(
        title,
        [
            opened.noun,
            target,
            "suggested",
            *(["p(given)"] if probable else []),
            "score",
            f"{opened.noun}s that speak against it",
        ],
        [
            (
                row["id"],
                row["given"],
                row["suggested"] if row["suspicious"] else "as given",
                *([f"{row['p_given']:.3f}"] if probable else []),
                float(row["score"]),
                ", ".join(str(other["id"]) for other in evidence[row["id"]]),
            )
            for row in rows
        ],
    )


def make_report(
    opened: sources.Source,
    errors: LabelErrors,
    frame: pd.DataFrame,
    evidence: dict[Any, list[dict[str, Any]]],
    warnings: list[str],
) -> Report:
    """The page: the model, the most suspicious examples with their values, what speaks against them, all scores."""
    from upweight import plots
    from upweight.cli.layout import frame_block, meaning_block
    from upweight.report import Figure, Report, Table, Warnings

    quantity, noun = errors.attribution.quantity, opened.noun
    histogram = plots.score_histogram(errors.attribution.scores, unit=quantity.unit, quantity=quantity.name)
    shown = frame.head(SHOWN_IN_REPORT)
    against = [
        (name, other["id"], other["label"], other["score"]) for name, others in evidence.items() for other in others
    ]
    counted = "row: counted from 0 under the header; " if opened.model is not None else ""
    return (
        Report(
            f"Label errors in {opened.title}",
            f"{errors.suspicious:,} of {len(frame):,} {noun}s have another label than the model would give them"
            f"{_unseen(errors)}. Not each of these is an error: the model is wrong too. Check from the top, and stop "
            "where the labels are right.",
        )
        .section("The model", *opened.blocks(), Warnings(warnings))
        .section(
            f"The most suspicious {noun}s",
            meaning_block(quantity, errors.attribution.magnitude),
            *_pictures(opened, errors, evidence),
            frame_block(
                shown,
                f"The {len(shown)} most suspicious of {len(frame):,} {noun}s. {counted}p_given, p_suggested: the "
                f"model's probability of the label{_unseen(errors)}.",
            ),
        )
        .section(
            "What speaks against them",
            Table(
                [f"suspicious {noun}", noun, "its label", f"change of the suspicious {noun}'s loss without it"],
                against,
                f"Left out of training, these {noun}s would make the loss of the suspicious label fall most.",
            ),
        )
        .section(
            "All scores",
            Figure(
                histogram,
                f"The scores of all {noun}s.",
                f"Histogram of the {quantity.name} of all {len(frame):,} {noun}s",
            ),
        )
    )


def _unseen(errors: LabelErrors) -> str:
    return "" if errors.method in ("self-influence", "loss") else " had it never seen them"


def _pictures(opened: sources.Source, errors: LabelErrors, evidence: dict[Any, list[dict[str, Any]]]) -> list[Any]:
    """The first suspicious images, each followed by one that contradicts it, of the suggested label if there is one."""
    from upweight.report import Images

    if opened.images is None:
        return []
    arrays, captions = [], []
    for row in errors.top(min(PICTURED, len(evidence))).to_dict("records"):
        others = evidence[row["id"]]
        other = next((each for each in others if each["label"] == row["suggested"]), others[0])
        arrays += [np.asarray(opened.images[row["position"]]), np.asarray(opened.images[other["position"]])]
        captions += [
            f"{row['rank']}. {opened.noun} {row['id']}: given {row['given']}, suggested {row['suggested']}",
            f"against it: {opened.noun} {other['id']}, {other['label']}",
        ]
    return [
        Images(arrays, captions, caption="The most suspicious, each followed by one that contradicts it.", pairs=True)
    ]
