"""`upweight label-errors`: which training examples probably carry a wrong label?"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from upweight import files
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
    Quiet,
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
from upweight.cli.outputs import TABLES, plan
from upweight.cli.session import session
from upweight.cli.study_file import is_study
from upweight.names import LINE
from upweight.spreadsheets import as_csv

if TYPE_CHECKING:
    import pandas as pd

    from upweight.cli import sources
    from upweight.tabular import Rewritten
    from upweight.tasks import LabelErrors, TargetErrors
    from upweight.tasks.target_errors import TargetScore

    Errors = LabelErrors | TargetErrors

EVIDENCE = 3
FIXED = ".fixed"
"""What the ending of the file with suggested labels begins with."""


class Method(StrEnum):
    """The scores that the command line offers (`upweight.tasks.label_scores`)."""

    out_of_sample = "out-of-sample"
    margin = "margin"
    relative = "relative"
    leverage_corrected = "leverage-corrected"
    self_influence = "self-influence"
    loss = "loss"


def label_errors(
    source: ModelOrSource,
    table: FittedOn = None,
    target: Target = None,
    method: Annotated[Method, typer.Option("--method", "-m", help="How labels are scored.")] = Method.out_of_sample,
    top: Top = 20,
    drop: Drop = None,
    only: Only = None,
    weight: Weight = None,
    group: RowGroup = None,
    task: Task = TaskName.auto,
    model: Model = ModelKind.auto,
    estimator: Estimator = None,
    trust: Trust = False,
    output: Output = FOLDER,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank training examples by how probably their label is wrong.

    Of a CSV, a logistic model is trained on all rows (its penalty chosen by cross-validation); of a study file its own
    model is asked, or a fitted pipeline of your own (model.joblib data.csv --trust).

    For every example: what would the model say had it never seen it? All examples, the most suspicious
    first, go to label-errors.csv, with a report beside it.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.label_page import make_report, verdict
        from upweight.cli.layout import foot, meaning
        from upweight.cli.sources import open_whole

        endings = [".csv", *([] if is_study(source) else [FIXED + ending for ending in TABLES])]
        inputs = [path for path in (source, table) if path is not None]
        outputs = plan(output, "label-errors", endings=endings, inputs=inputs, force=force)
        options = table_options(drop, only, weight, group, task, model, estimator)
        opened = opening(run, outputs, source, lambda: open_whole(source, table, target, options, seed, trust=trust))
        run.stage(f"scoring {opened.objective.n:,} labels: {method.value}")
        errors = found_errors(opened, method)
        frame = ranked(errors, opened)
        evidence = speaking_against(errors, top)
        mended = fixed(errors, opened)
        run.warnings += () if mended is None else mended.notes
        page = make_report(opened, errors, frame, evidence, run.warnings, foot(seed))
        contents: dict[str, files.Content] = {".csv": as_csv(frame), ".html": page.html()}
        if mended is not None:
            contents |= {FIXED + mended.ending: mended.content}
        written = outputs.write(contents)
        show(
            run,
            opened,
            _headline(opened),
            verdict(errors, opened),
            _shown(opened, errors, evidence, top, target or "label"),
            meaning(errors.attribution.quantity, errors.attribution.magnitude),
        )
        run.files = {f"all {opened.noun}s": written[".csv"], "report": written[".html"]}
        if mended is not None:
            what = "labels" if opened.class_names else "values"
            run.files[f"with suggested {what}"] = written[FIXED + mended.ending]
        run.result = said(source, opened, errors.attribution.quantity, errors.attribution.magnitude) | {
            "target": target,
            "classes": opened.class_names,
            "model": opened.facts,
            "method": errors.method,
            "solver": repr(errors.influence.inverse),
            "suspicious": errors.suspicious,
            "top": [
                {key: value for key, value in row.items() if key != "position"}
                | opened.line_of(row["position"])
                | {"evidence": evidence[row["id"]]}
                for row in errors.top(top).to_dict("records")
            ],
        }


def found_errors(opened: sources.Source, method: Method) -> Errors:
    """Of classes or of a quantity, as the source has them.

    Raises
    ------
    InputError
        If the method is none of a quantity.
    """
    from typing import get_args

    from upweight.errors import InputError
    from upweight.losses import SquaredError
    from upweight.tasks import label_errors, target_errors
    from upweight.tasks.target_errors import TargetScore

    if not isinstance(opened.objective.loss, SquaredError):
        return label_errors(opened.objective, method=method.value, class_names=opened.class_names)
    known = get_args(TargetScore)
    if method.value not in known:
        raise InputError(f"--method: {method.value} is for classes; of a quantity there are {', '.join(known)}")
    return target_errors(opened.objective, method=cast("TargetScore", method.value))


def ranked(errors: Errors, opened: sources.Source) -> pd.DataFrame:
    """All examples, the most suspicious first: rank, name, line, labels, score, and the table's own columns."""
    from upweight.cli.layout import beside

    found = errors.to_pandas()
    positions = found["position"].to_numpy()
    shown = found.drop(columns="position").rename(columns={"id": opened.noun})
    return beside(opened.with_lines(shown, positions), opened.values, positions)


def fixed(errors: Errors, opened: sources.Source) -> Rewritten | None:
    """The file with the suspicious labels or values replaced by those suggested.

    None of a study, and of a quantity that the model knows in other units than the file's.
    """
    from upweight.report.numbers import decimals
    from upweight.tabular import rewritten

    model = opened.model
    if model is None or (not model.table.classifies and model.targets is not None):
        return None
    table, found = model.table, errors.to_pandas()
    wrong = found[found["suspicious"]]
    suggested = wrong["suggested"]
    if not table.classifies:
        suggested = suggested.astype(float).round(decimals(table.labels.astype(float)))
    answers = dict(zip(wrong["id"].tolist(), suggested.tolist(), strict=True))
    what = "labels" if table.classifies else "values"
    return rewritten(table, answers, called=f"the file with suggested {what}")


def speaking_against(errors: Errors, k: int) -> dict[Any, list[dict[str, Any]]]:
    """For each of the k most suspicious examples, the ones that contradict its label most."""
    ranking = errors.evidence(k, EVIDENCE)
    labels = errors.given_names.tolist()
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
    classes = f", {facts['classes']} classes" if "classes" in facts else ""
    return f"{facts['rows trained on']:,} rows{classes}; {opened.model.validation.words()}"


def _shown(
    opened: sources.Source, errors: Errors, evidence: dict[Any, list[dict[str, Any]]], top: int, target: str
) -> Any:
    from upweight.cli.label_page import asked, counted
    from upweight.cli.layout import table

    title = f"Most suspicious {asked(errors)} ({counted(errors)})"
    rows = errors.top(top).to_dict("records")
    probable = bool(rows) and "p_given" in rows[0]
    return table(
        title,
        [
            opened.noun,
            *[LINE] * (opened.lines is not None),
            target,
            "suggested",
            *(["p(given)"] if probable else []),
            "score",
            f"{opened.noun}s that speak against it",
        ],
        [
            (
                row["id"],
                *opened.line_of(row["position"]).values(),
                row["given"],
                row["suggested"] if row["suspicious"] or "error" in row else "as given",
                *([f"{row['p_given']:.3f}"] if probable else []),
                float(row["score"]),
                ", ".join(str(other["id"]) for other in evidence[row["id"]]),
            )
            for row in rows
        ],
    )
