"""`upweight verify`: are the predictions of influence right? Retrain, and compare."""

from __future__ import annotations

import math
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
    Query,
    Quiet,
    Row,
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

if TYPE_CHECKING:
    from rich.console import Group

    from upweight.cli import sources
    from upweight.evaluation import Verification
    from upweight.report import Report

ALLOWED = 0.1
"""Difference of the slope from 1 that is told."""


def verify(
    source: Source,
    target: Target = None,
    row: Row = None,
    query: Query = None,
    k: Annotated[int, typer.Option("--k", "-k", min=2, help="Training examples to leave out, one by one.")] = 20,
    top: Top = 5,
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
    """Leave out the k most influential training examples, retrain, and compare with the prediction.

    The query is chosen as by `upweight explain`. Prints Pearson and Spearman correlation and the slope of actual on
    predicted changes (1 where magnitudes are right), and writes a figure and a report.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.layout import meaning, png, table
        from upweight.cli.leverage import correction
        from upweight.cli.sources import open_source
        from upweight.influence import Influence
        from upweight.report.numbers import signed

        outputs = plan(output, "verify", endings=[".png"], inputs=[source], force=force)
        options = table_options(drop, only, weight, group, task, model, estimator)
        opened = opening(run, outputs, source, lambda: open_source(source, target, row, query, seed, options))
        position = opened.query()
        name = f"{opened.noun} {opened.query_ids[position]}"
        run.stage(f"retraining without each of the {k} most influential training examples of {name}")
        asked = opened.queries.take([position])
        found = Influence(opened.objective).verify(asked, k, **correction(opened))
        if opened.model is not None and opened.model.is_linear:
            warn_if_off(found, opened.noun)
        page = make_report(opened, name, found, run.warnings)
        written = outputs.write({".png": png(found.figure()), ".html": page.html()})
        largest, unit = found.to_pandas().head(top), found.quantity.unit
        pairs = [
            (left_out, signed(predicted), signed(actual))
            for left_out, predicted, actual in zip(largest["id"], largest["predicted"], largest["actual"], strict=True)
        ]
        show(
            run,
            opened,
            agreement_table(found, f"{opened.title}, {name}: predicted against actual"),
            table(
                f"The {len(pairs)} largest",
                [f"without {opened.noun}", f"predicted [{unit}]", f"actual [{unit}]"],
                pairs,
            ),
            meaning(found.quantity),
        )
        run.files = {"figure": written[".png"], "report": written[".html"]}
        run.result = said(source, opened, found.quantity) | {
            "query": {opened.noun: opened.query_ids[position]},
            "agreement": agreement_json(found),
            "pairs": found.to_pandas().drop(columns="query").to_dict("records"),
        }


def warn_if_off(found: Verification, noun: str) -> None:
    """Say by how much predictions of a convex model, which ought to be right, miss the retrained ones."""
    import numpy as np

    from upweight.errors import UpweightWarning, warn

    if abs(found.slope - 1) <= ALLOWED:
        return
    predicted, actual = (values[0].cpu().numpy() for values in (found.predicted, found.actual))
    worst = int(np.abs(predicted - actual).argmax())
    pair = f"without {noun} {found.ids[0, worst]} {predicted[worst]:+.3g} was predicted, {actual[worst]:+.3g} is actual"
    if math.isfinite(found.slope):
        words = f"slope {found.slope:.3g}, where 1 says that sizes are right; the widest gap: {pair}"
    else:
        words = f"there is no slope, as all changes are the same ({pair}); choose a row that the model is less sure of"
    warn(f"verify: {words}", UpweightWarning)


def agreement_facts(found: Verification) -> dict[str, Any]:
    """Correlations and slope, and how well the models were retrained."""
    return {
        "pairs": found.agreement.pairs,
        "Pearson": found.pearson,
        "Spearman": found.spearman,
        "slope (1: magnitudes are right)": found.slope,
        "largest ‖∇R‖ of the retrained models": float(found.gradient_norms.max()),
        f"noise floor [{found.quantity.unit}]": found.noise_floor,
        "seconds": found.seconds,
    }


def agreement_table(found: Verification, title: str) -> Group:
    """The same for the terminal."""
    from upweight.cli.layout import facts

    return facts(title, agreement_facts(found))


def agreement_json(found: Verification) -> dict[str, Any]:
    """The same for machines."""
    return {
        "pairs": found.agreement.pairs,
        "pearson": found.pearson,
        "spearman": found.spearman,
        "slope": found.slope,
        "gradient_norm": float(found.gradient_norms.max()),
        "noise_floor": found.noise_floor,
        "seconds": found.seconds,
    }


def make_report(opened: sources.Source, name: str, found: Verification, warnings: list[str]) -> Report:
    """The page: the figure, the agreement, every pair."""
    from upweight.cli.layout import beside, frame_block, meaning_block
    from upweight.report import Facts, Figure, Report, Warnings

    pairs = found.to_pandas().drop(columns="query")
    places = {name: place for place, name in enumerate(opened.objective.ids.tolist())}
    positions = [places[name] for name in pairs["id"].tolist()]
    pairs = opened.with_lines(pairs.rename(columns={"id": opened.noun}), positions)
    pairs = beside(pairs, opened.train_table, positions)
    return (
        Report(
            f"Verified: {opened.title}",
            f"{found.agreement.pairs} models were retrained, each without one training example, and the change of the "
            f"loss of {name} compared with what influence had predicted: Pearson {found.pearson:.4f}, slope "
            f"{found.slope:.3f}.",
        )
        .section(
            "Predicted against actual",
            meaning_block(found.quantity),
            Figure(found.figure(), "Each point is a training example left out.", "Actual over predicted changes"),
            Facts(agreement_facts(found), digits=4),
            Warnings(warnings),
        )
        .section("The model", *opened.blocks())
        .section("Every pair", frame_block(pairs, "In order of |predicted|."))
    )
