"""`upweight unlearn` and `upweight relabel`: change what a model learnt from some examples, without retraining."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.options import FOLDER, AsJson, Output, Quiet, Seed, report_path
from upweight.cli.session import Session, session

if TYPE_CHECKING:
    from upweight.cli.sources import Source
    from upweight.report import Report
    from upweight.tasks import Unlearned, UnlearningReport

RULES = (
    "highest-output",
    "lowest-output",
    "highest-gradient",
    "lowest-gradient",
    "highest-fisher",
    "lowest-fisher",
    "random",
)
StudyFile = Annotated[
    Path,
    typer.Argument(help="A Python study file (see examples/digits_study.py); its queries judge.", show_default=False),
]
Classes = Annotated[list[str], typer.Option("--class", "-c", help="A class to forget; may be repeated.")]
Ratio = Annotated[float, typer.Option(help="Share of the units that may move; 1: every parameter.")]
Choose = Annotated[str, typer.Option(help=f"Which units: {', '.join(RULES)}.")]
MethodOption = Annotated[str, typer.Option("--method", help="GIF, FIF, PIF, IF or SIF.")]
Steps = Annotated[int, typer.Option(min=1, help="Rounds, each re-linearised.")]
Search = Annotated[
    bool, typer.Option("--search/--no-search", help="Judge each step's length on held-out training examples.")
]
Damping = Annotated[float, typer.Option(min=0, help="δ of the curvature.")]
Examples = Annotated[int | None, typer.Option(min=1, help="Training examples that the curvature is estimated from.")]
Sample = Annotated[
    int | None,
    typer.Option(min=1, help="Changed examples, and as many others, that stand for all in each step (default: all)."),
]
Per = Annotated[str, typer.Option(help="Units are ranked within each layer, or over all: layer or global.")]
Labels = Annotated[
    Path,
    typer.Option("--labels", "-l", help="A CSV with columns position and label: the new labels of training examples."),
]


def unlearn(
    study: StudyFile,
    classes: Classes,
    ratio: Ratio = 0.05,
    choose: Choose = RULES[0],
    per: Per = "layer",
    method: MethodOption = "GIF",
    steps: Steps = 3,
    search: Search = True,
    damping: Damping = 0.001,
    examples: Examples = None,
    sample: Sample = None,
    output: Output = FOLDER,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a model forget classes by moving a few of its units.

    The new model's parameters are written beside the report; the study's own queries, which no step and no choice of
    length looks at, say what became of the classes that were forgotten and of the others.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.sources import open_source
        from upweight.tasks import unlearn as forget

        run.stage(f"reading {study.name} and training")
        opened = open_source(study, None, None, None, seed)
        wanted = [_class(opened, name) for name in classes]
        run.stage(f"moving {ratio:.0%} of the units by {method}")
        found = forget(
            opened.objective,
            classes=wanted,
            parameters=_parameters(opened, choose, per, ratio, seed, method),
            method=method,
            steps=steps,
            search=search,
            damping=damping,
            examples=examples,
            sample=sample,
            seed=seed,
            **TOLERANCE,
        )
        _finish(run, opened, found, f"Unlearning {', '.join(classes)} in {opened.title}", output, "unlearn")


def relabel(
    study: StudyFile,
    labels: Labels,
    ratio: Ratio = 0.05,
    choose: Choose = RULES[0],
    per: Per = "layer",
    method: MethodOption = "GIF",
    steps: Steps = 3,
    search: Search = True,
    damping: Damping = 0.001,
    examples: Examples = None,
    sample: Sample = None,
    output: Output = FOLDER,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Give training examples other labels, and a model what it would have learnt from them, by moving a few units."""
    with session(as_json, quiet) as run:
        import pandas as pd

        from upweight.cli.sources import open_source
        from upweight.messages import InputError
        from upweight.tasks import relabel as learn

        table = pd.read_csv(labels)
        if not {"position", "label"} <= set(table.columns) or not len(table):
            raise InputError(
                f"--labels: {labels.name} needs columns position and label, and a row for each example; it has "
                f"{', '.join(map(str, table.columns))} and {len(table)} rows"
            )
        run.stage(f"reading {study.name} and training")
        opened = open_source(study, None, None, None, seed)
        given = [_class(opened, str(name)) for name in table["label"]]
        run.stage(f"moving {ratio:.0%} of the units by {method}")
        found = learn(
            opened.objective,
            table["position"].tolist(),
            given,
            parameters=_parameters(opened, choose, per, ratio, seed, method),
            method=method,
            steps=steps,
            search=search,
            damping=damping,
            examples=examples,
            sample=sample,
            seed=seed,
            **TOLERANCE,
        )
        title = f"New labels of {len(table):,} training examples in {opened.title}"
        _finish(run, opened, found, title, output, "relabel")


TOLERANCE: dict[str, Any] = {"tolerance": 1e-4, "max_iterations": 300}
"""A residual of 1e-4 is far below what linearising costs."""


def _class(opened: Source, name: str) -> int:
    from upweight.messages import InputError

    if opened.class_names is not None and name in opened.class_names:
        return opened.class_names.index(name)
    if opened.class_names is None and name.isdigit():
        return int(name)
    known = "class numbers" if opened.class_names is None else ", ".join(opened.class_names)
    raise InputError(f"class: {name!r} is none of this study's, {known}")


def _parameters(opened: Source, choose: str, per: str, ratio: float, seed: int, method: str) -> Any:
    from upweight import select
    from upweight.messages import InputError

    if choose not in RULES:
        raise InputError(f"--choose: one of {', '.join(RULES)}; got {choose!r}")
    if method == "IF" or ratio >= 1:
        return select.everything(opened.objective.layout)
    rule = getattr(select, choose.replace("-", "_"))
    return rule(ratio, per=per, seed=seed) if choose == "random" else rule(ratio, per=per)


def _finish(run: Session, opened: Source, found: Unlearned, title: str, output: Path, name: str) -> None:
    from upweight.cli.layout import facts, table

    judged = found.report(opened.queries)
    path = report_path(output, name)
    weights = save(found, path.with_suffix(".pt"))
    page = make_report(opened, found, judged, title, run.warnings).save(path)
    if not run.as_json:
        run.show(
            table(title, ["on the queries", "before", "after"], lines(judged)),
            facts("What moved", moved(found)),
        )
    run.files = {"parameters": weights, "report": page}
    run.result = {
        "examples": len(found.changed),
        **moved(found),
        "queries": {line[0]: {"before": line[1], "after": line[2]} for line in lines(judged)},
    }


def lines(judged: UnlearningReport) -> list[list[Any]]:
    """The report's figures without a retrained model."""
    return [
        ["accuracy, changed", *judged.removed[:2]],
        ["accuracy, others", *judged.remaining[:2]],
        ["loss, others", *judged.losses[:2]],
        ["membership advantage", *judged.membership],
    ]


def moved(found: Unlearned) -> dict[str, Any]:
    """What was moved, how far, and how well it was solved for."""
    last = found.responses[-1]
    before, after = found.learnt()
    label = "label" if found.targets is None else "new label"
    return {
        f"changed examples predicted by their {label}": f"{before:.1%} before, {after:.1%} after",
        "parameters that moved": found.subset.size,
        "of all": found.subset.share,
        "chosen": found.subset.words,
        "method": last.method,
        "lengths of the steps": ", ".join(f"{length:g}" for length in found.lengths),
        "δ": last.damping,
        **({} if found.score is None else {"log-likelihood of what is wanted, held out": found.score}),
        "residual, all coordinates": found.responses[0].least_squares,
        "residual, those that moved": found.responses[0].restricted,
        "seconds": found.seconds,
    }


def save(found: Unlearned, path: Path) -> Path:
    """The new model's state, whole or not at all."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        torch.save(found.model.state_dict(), draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def make_report(opened: Source, found: Unlearned, judged: UnlearningReport, title: str, warnings: list[str]) -> Report:
    """The page: accuracies before and after, by class, and what moved."""
    from upweight import plots
    from upweight.report import Facts, Figure, Report, Table, Text, Warnings

    names, by_class, changed = accuracies(opened, found)
    return (
        Report(
            title,
            f"{found.subset.size:,} of {found.before.p:,} parameters moved. Accuracy on the classes that changed: "
            f"{judged.removed[0]:.1%} before, {judged.removed[1]:.1%} after; on the others: {judged.remaining[0]:.1%} "
            f"before, {judged.remaining[1]:.1%} after.",
        )
        .section(
            "On the queries",
            Text("No step, and no choice of a length, looked at these examples."),
            Table(
                ["", "before", "after"],
                lines(judged),
                "Membership advantage: how well the best threshold on the loss tells the training examples that "
                "changed from queries of the same classes; 0 is not at all.",
            ),
            Figure(
                plots.classwise_bars(names, by_class, removed=changed),
                "Accuracy on the queries by class.",
                "Bars of each class's accuracy before and after",
            ),
        )
        .section("What moved", Facts(moved(found)), Warnings(warnings))
    )


def accuracies(opened: Source, found: Unlearned) -> tuple[list[str], dict[str, list[float]], list[int]]:
    """Names of the classes among the queries, each one's accuracy before and after, and places of those that changed.

    Changed are the classes that the changed examples were labelled with.
    """
    from upweight.tasks.predictions import named, predictions

    said = {
        "before": predictions(found.before, opened.queries),
        "after": predictions(found.after, opened.queries),
    }
    present = said["before"].given.unique()
    names = [str(name) for name in named(present, opened.class_names)]
    shares = {
        name: [float((~each.wrong[each.given == label]).double().mean()) for label in present]
        for name, each in said.items()
    }
    gone = predictions(found.before).given[found.changed].unique()
    return names, shares, [place for place, label in enumerate(present) if bool((gone == label).any())]
