"""`upweight unlearn` and `upweight correct-labels`: what a model learnt changes, without retraining."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from upweight.cli.opening import opening
from upweight.cli.options import FOLDER, AsJson, Force, Output, Quiet, Seed
from upweight.cli.outputs import Outputs, plan
from upweight.cli.session import Session, session
from upweight.cli.unlearn_options import (
    RULES,
    Choose,
    Classes,
    Damping,
    Examples,
    Labels,
    MethodOption,
    Per,
    Ratios,
    Sample,
    Search,
    Steps,
    StudyFile,
    choices,
    class_number,
    new_labels,
    refuse_other_positions,
    settings,
    shares,
)

if TYPE_CHECKING:
    from upweight.cli.source import Source
    from upweight.report import Report
    from upweight.tasks import Unlearned, UnlearningReport


def unlearn(
    study: StudyFile,
    classes: Classes,
    ratios: Ratios = None,
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
    force: Force = False,
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

        outputs = plan(output, "unlearn", endings=[".pt"], inputs=[study], force=force)
        tried_shares = shares(study, ratios, choose, per, method, search, damping)
        opened = opening(run, outputs, study, lambda: open_source(study, None, None, None, seed))
        wanted = [class_number(opened, name) for name in classes]
        asked = settings(method, steps, search, damping, examples, sample, seed)
        tried = {}
        for ratio, parameters in choices(opened, tried_shares, choose, per, seed).items():
            run.stage(f"moving {ratio:.0%} of the units by {method}")
            tried[ratio] = forget(opened.objective, classes=wanted, parameters=parameters, **asked)
        _finish(run, opened, tried, f"Unlearning {', '.join(classes)} in {opened.title}", outputs)


def correct_labels(
    study: StudyFile,
    labels: Labels,
    ratios: Ratios = None,
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
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Give training examples other labels, and a model what it would have learnt from them, by moving a few units."""
    with session(as_json, quiet) as run:
        from upweight.cli.sources import open_source
        from upweight.tasks import correct_labels as learn

        outputs = plan(output, "correct-labels", endings=[".pt"], inputs=[study, labels], force=force)
        tried_shares = shares(study, ratios, choose, per, method, search, damping)
        table = new_labels(labels)
        opened = opening(run, outputs, study, lambda: open_source(study, None, None, None, seed))
        refuse_other_positions(labels, table["position"], opened.objective.n)
        given = [class_number(opened, str(name), "--labels") for name in table["label"]]
        asked = settings(method, steps, search, damping, examples, sample, seed)
        tried = {}
        for ratio, parameters in choices(opened, tried_shares, choose, per, seed).items():
            run.stage(f"moving {ratio:.0%} of the units by {method}")
            tried[ratio] = learn(opened.objective, table["position"].tolist(), given, parameters=parameters, **asked)
        title = f"New labels of {len(table):,} training examples in {opened.title}"
        _finish(run, opened, tried, title, outputs)


def _finish(run: Session, opened: Source, tried: dict[float, Unlearned], title: str, outputs: Outputs) -> None:
    import torch

    from upweight.cli.layout import facts, table

    found = max(tried.values(), key=lambda each: each.score or 0.0)  # a score is there if several were tried
    judged = found.report(opened.queries)
    rows = by_ratio(opened, tried) if len(tried) > 1 else []
    page = make_report(opened, found, judged, rows, title, run.warnings)
    written = outputs.write({".pt": partial(torch.save, found.model.state_dict()), ".html": page.html()})
    if not run.as_json:
        run.show(
            table(title, ["on the queries", "before", "after"], lines(judged)),
            *([table("By share of the units", RATIO_HEADS, rows)] if rows else []),
            facts("What moved", moved(found)),
        )
    run.files = {"parameters": written[".pt"], "report": written[".html"]}
    run.result = {
        **({"by ratio": [dict(zip(RATIO_HEADS, row, strict=True)) for row in rows]} if rows else {}),
        "examples": len(found.changed),
        **moved(found),
        "queries": {line[0]: {"before": line[1], "after": line[2]} for line in lines(judged)},
    }


RATIO_HEADS = ["share", "parameters", "held out", "accuracy, changed", "accuracy, others"]


def by_ratio(opened: Source, tried: dict[float, Unlearned]) -> list[list[Any]]:
    """Of each share tried: parameters that moved, score on held-out examples, accuracies on the queries."""
    rows = []
    for ratio, each in tried.items():
        judged = each.report(opened.queries)
        rows.append([f"{ratio:.3g}", each.subset.size, each.score, judged.removed[1], judged.remaining[1]])
    return rows


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


def make_report(
    opened: Source,
    found: Unlearned,
    judged: UnlearningReport,
    rows: list[list[Any]],
    title: str,
    warnings: list[str],
) -> Report:
    """The page: accuracies before and after, by class and by share of the units, what moved, and the solves."""
    from upweight import plots
    from upweight.report import Facts, Figure, Report, Table, Text, Warnings

    names, by_class, changed = accuracies(opened, found)
    page = Report(
        title,
        f"{found.subset.size:,} of {found.before.p:,} parameters moved. Accuracy on the classes that changed: "
        f"{judged.removed[0]:.1%} before, {judged.removed[1]:.1%} after; on the others: {judged.remaining[0]:.1%} "
        f"before, {judged.remaining[1]:.1%} after.",
    ).section(
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
    if rows and not any(math.isnan(value) for value in (*judged.removed[:2], *judged.remaining[:2])):
        curves: dict[str, Any] = {found.responses[0].method: [(row[4], row[3]) for row in rows]}
        figure = plots.accuracy_by_ratio(
            [float(row[0]) for row in rows], curves, before=(judged.remaining[0], judged.removed[0])
        )
        page.section(
            "By share of the units",
            Table(RATIO_HEADS, rows, "Kept: the share by which held-out training examples are likeliest."),
            Figure(
                figure,
                "Accuracy on the queries by share of the units that may move.",
                "Accuracy over the share of the units, on what remains and on what changed",
            ),
        )
    solves = plots.residual_curves(
        {f"step {number}": each.history for number, each in enumerate(found.responses, start=1)},
        tolerance=found.responses[0].tolerance,
    )
    return page.section(
        "What moved",
        Facts(moved(found)),
        Figure(solves, "Residual of each step's equations.", "The relative residual over iterations, step by step"),
        Warnings(warnings),
    )


def accuracies(opened: Source, found: Unlearned) -> tuple[list[str], dict[str, list[float]], list[int]]:
    """Names of the classes among the queries, each one's accuracy before and after, and places of those that changed.

    Changed are the classes that the changed examples were labelled with.
    """
    from upweight.predictions import given_labels, named, predictions

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
    gone = given_labels(found.before)[found.changed].unique()
    return names, shares, [place for place, label in enumerate(present) if bool((gone == label).any())]
