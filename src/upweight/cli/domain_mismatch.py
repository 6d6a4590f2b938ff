"""`upweight domain-mismatch`: which training examples make the model fail on a group?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from upweight.cli.opening import opening, said, show
from upweight.cli.options import (
    FOLDER,
    AsJson,
    Drop,
    Estimator,
    FoldGroup,
    Force,
    Model,
    ModelKind,
    Only,
    Output,
    Quiet,
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
from upweight.errors import InputError
from upweight.names import LINE
from upweight.spreadsheets import as_csv

if TYPE_CHECKING:
    import pandas as pd

    from upweight.cli import sources
    from upweight.report import Report
    from upweight.tasks import DomainMismatch, GroupFeatures

SHOWN_IN_REPORT = 50


def domain_mismatch(
    source: Source,
    group: Annotated[
        str,
        typer.Option(
            "--group",
            "-g",
            help="Which examples belong to the group: an expression of the table's columns, as in pandas' query.",
            show_default=False,
        ),
    ],
    target: Target = None,
    row: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="CSV: a row to explain, held out of training, whether the model is wrong on it or not; repeat it.",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="CSV: another file, of the new domain, whose rows are asked about; all of SOURCE is trained on."
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, help="Wrong predictions explained at most; of more, so many are drawn by chance.")
    ] = 200,
    top: Top = 10,
    drop: Drop = None,
    only: Only = None,
    weight: Weight = None,
    fold_group: FoldGroup = None,
    task: Task = TaskName.auto,
    model: Model = ModelKind.auto,
    estimator: Estimator = None,
    output: Output = FOLDER,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the training examples responsible for wrong predictions of a group.

    Of a CSV, a fifth is held out (or --test given) and a logistic model trained on the rest; explained is what it gets
    wrong of the group among the rows held out. A study file gives its own model, with tables of its training examples
    and queries. Says how far the group's own training examples stand out, and how many weights outrank its columns'.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.layout import meaning, png, table
        from upweight.cli.sources import open_rows
        from upweight.report.numbers import signed
        from upweight.tabular.condition import read
        from upweight.tasks import domain_mismatch as find

        read(group)  # what can't be read is refused before training
        outputs = plan(output, "domain-mismatch", endings=[".csv", ".png"], inputs=[source, test], force=force)
        options = table_options(drop, only, weight, fold_group, task, model, estimator, "--fold-group")
        opened = opening(run, outputs, source, lambda: open_rows(source, target, row, test, seed, options))
        tables = tables_of(opened)
        members, asked = (belongs(each, group) for each in tables)
        picked = np.flatnonzero(np.isin(opened.query_ids, row)) if row else drawn(opened, asked, most, seed)
        run.stage(f"scoring {opened.objective.n:,} training examples")
        found = find(
            opened.objective,
            opened.queries if picked is None else opened.queries.take(picked.tolist()),
            train_group=members,
            group=asked if picked is None else None,
            name=group,
            ids=(opened.query_ids if picked is None else opened.query_ids[picked]).tolist(),
            class_names=opened.class_names,
            features=compared(opened, group, members),
        )
        frame = named(opened, found.to_pandas())
        written = outputs.write(
            {
                ".csv": as_csv(frame),
                ".png": png(found.figure()),
                ".html": make_report(opened, found, run.warnings).html(),
            }
        )
        show(
            run,
            opened,
            f"{opened.title}: {found.words()}.",
            table(
                "Most influential training examples",
                ["rank", opened.noun, *[LINE] * (opened.lines is not None), "in the group", "label", "influence", ""],
                [
                    (
                        each["rank"],
                        each["id"],
                        *opened.line_of(each["position"]).values(),
                        "yes" if each["in_group"] else "",
                        each.get("label", ""),
                        signed(each["influence"]),
                        each["says"],
                    )
                    for each in found.top(top).to_dict("records")
                ],
            ),
            meaning(found.attribution.quantity, found.attribution.magnitude),
        )
        run.files = {f"all {opened.noun}s": written[".csv"], "figure": written[".png"], "report": written[".html"]}
        run.result = said(source, opened, found.attribution.quantity, found.attribution.magnitude) | {
            "group": group,
            "members": int(found.group.sum()),
            "concentration": asdict(found.concentration),
            "coefficients": None if found.coefficients is None else asdict(found.coefficients),
            "queries": queries_of(opened, found).to_dict("records"),
            "top": [
                {key: value for key, value in each.items() if key != "position"} | opened.line_of(each["position"])
                for each in found.top(top).to_dict("records")
            ],
        }  # fmt: skip


def named(opened: sources.Source, rows: pd.DataFrame) -> pd.DataFrame:
    """Training examples called as the source calls them, with the lines of its file."""
    found = rows.rename(columns={"id": opened.noun})
    return opened.with_lines(found, rows["position"].to_numpy()).drop(columns="position")


def drawn(opened: sources.Source, asked: np.ndarray, most: int, seed: int) -> np.ndarray | None:
    """Positions of the queries that are explained, where these aren't all wrong predictions of the group.

    Of a quantity, where no prediction is wrong or right, all of the group. A warning says how many were left aside.
    """
    from upweight.errors import UpweightWarning, warn

    said = opened.predictions()
    among = np.flatnonzero(asked if said is None else asked & said.wrong.cpu().numpy())
    if len(among) <= most:
        return among if said is None and len(among) else None
    what = "examples" if said is None else "wrong predictions"
    warn(
        f"queries: {most:,} of the group's {len(among):,} {what} are explained, drawn by chance (seed {seed}); --most "
        "explains more, for memory and time of each",
        UpweightWarning,
    )
    return np.sort(np.random.default_rng(seed).choice(among, most, replace=False))


def queries_of(opened: sources.Source, found: DomainMismatch) -> pd.DataFrame:
    """Each query that was explained, with the line of its file."""
    frame = found.by_query()
    if opened.query_lines is None:
        return frame
    lines = dict(zip(opened.query_ids.tolist(), opened.query_lines.tolist(), strict=True))
    frame.insert(1, LINE, [lines[name] for name in frame.iloc[:, 0].tolist()])
    return frame


def tables_of(opened: sources.Source) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What groups are chosen by, of the training examples and of the queries."""
    if opened.typed is not None:
        return opened.typed
    if opened.train_table is None or opened.query_table is None:
        raise InputError(
            f"{opened.title}: has no tables to choose a group by; give upweight.Study(…, table=…, query_table=…), data "
            "frames with a row for each training example and each query"
        )
    return opened.train_table, opened.query_table


def belongs(table: pd.DataFrame, expression: str) -> np.ndarray:
    """Which rows an expression holds for, ``[rows]``.

    Raises
    ------
    InputError
        If it can't be read, or isn't true or false for each row.
    """
    from upweight.tabular.condition import read

    return read(expression).holds(table)


def compared(opened: sources.Source, expression: str, members: np.ndarray) -> GroupFeatures | None:
    """Of the inputs made of the columns in the expression, the one that tells the group best; None without any."""
    if opened.model is None or not opened.model.is_linear:
        return None
    from upweight.tabular.condition import read
    from upweight.tasks import GroupFeatures

    mentioned = read(expression).names
    names = [name for name in opened.model.table.features.columns if name in mentioned]
    positions = opened.model.inputs_of(names)
    if not positions or members.all() or not members.any():
        return None
    inputs = opened.objective.data.take(range(opened.objective.n))[0][:, positions].cpu().numpy()
    spread = np.maximum(inputs.std(0), np.finfo(float).tiny)
    distances = np.abs(inputs[members].mean(0) - inputs[~members].mean(0)) / spread
    return GroupFeatures(positions=[positions[int(distances.argmax())]], names=opened.model.input_names)


def make_report(opened: sources.Source, found: DomainMismatch, warnings: list[str]) -> Report:
    """The page: the finding, the queries, the most influential examples with their values, all of them by rank."""
    from upweight.cli.layout import beside, frame_block, meaning_block
    from upweight.report import Facts, Figure, Report, Warnings

    close = found.concentration
    shown = found.top(SHOWN_IN_REPORT)
    shown = beside(named(opened, shown), opened.train_table, shown["position"].to_numpy())
    facts: dict[str, Any] = {
        "group": found.name,
        "training examples in it": int(found.group.sum()),
        "queries explained": len(found.queries),
        "strongest member over the strongest other": close.strongest,
        "mean member over the strongest other": close.mean,
        "weakest member over the strongest other": close.weakest,
        "share of all |influence|": close.share,
        "share of the training examples": close.expected_share,
        "ranks of the members": ", ".join(map(str, close.ranks[:20])) + (" …" if len(close.ranks) > 20 else ""),
    }
    if found.coefficients is not None:
        weights = found.coefficients
        facts |= {
            "weight of the group's feature": f"{weights.feature}: {weights.weight:.3g}",
            "weights that outrank it": f"{weights.outranked_by} of {weights.of}",
        }
    sentence = found.words()
    return (
        Report(f"Why the model fails on {found.name}: {opened.title}", f"{sentence[:1].upper()}{sentence[1:]}.")
        .section("The finding", Facts(facts), Warnings(warnings))
        .section(
            "All training examples",
            Figure(
                found.figure(),
                "How much each training example moves the queries' mean loss, by rank.",
                f"Size of the influence of {len(found.group):,} training examples by rank, the group's marked",
            ),
        )
        .section(
            "The most influential training examples",
            meaning_block(found.attribution.quantity, found.attribution.magnitude),
            frame_block(
                shown,
                f"The {len(shown):,} most influential of {len(found.group):,}; influence: mean over the queries.",
            ),
        )
        .section(
            "The queries",
            frame_block(
                queries_of(opened, found),
                "Each query's loss, and the group's |influence| on it over that of the strongest other example; "
                "among_the_first: members among as many first ones as there are members.",
            ),
        )
        .section("The model", *opened.blocks())
    )
