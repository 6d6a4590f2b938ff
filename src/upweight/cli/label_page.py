"""The page of `upweight label-errors`: a verdict, the most suspicious beside what speaks against them, all scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from upweight.tasks import LabelErrors, TargetErrors

if TYPE_CHECKING:
    from upweight.cli.source import Source
    from upweight.report import Report, Table

Errors = LabelErrors | TargetErrors
Evidence = dict[Any, list[dict[str, Any]]]
SHOWN_IN_REPORT = 50
PICTURED = 12
BESIDE = 10
"""Suspicious rows that are shown side by side with what speaks against them."""
COLUMNS = 12
"""Columns of these, the weightiest for the row."""
SURE = 0.95
ANCHOR = "suspicious-"
"""What a link to one of these tables begins with, its rank behind it."""


def make_report(
    opened: Source, errors: Errors, frame: pd.DataFrame, evidence: Evidence, warnings: list[str], foot: str
) -> Report:
    """The verdict, the most suspicious examples with what speaks against them, all scores, the model."""
    from upweight import plots
    from upweight.cli.layout import frame_block, meaning_block
    from upweight.report import Figure, Report, Table, Warnings

    quantity, noun = errors.attribution.quantity, opened.noun
    histogram = plots.score_histogram(errors.attribution.scores, unit=quantity.unit, quantity=quantity.name)
    shown = frame.head(SHOWN_IN_REPORT)
    against = [
        (name, other["id"], other["label"], other["score"]) for name, others in evidence.items() for other in others
    ]
    counted_from = "row: counted from 0 under the header; " if opened.model is not None else ""
    beside = side_by_side(opened, errors, evidence)
    anchors = {name: f"{ANCHOR}{rank}" for rank, name in enumerate(list(evidence)[: len(beside)], 1)}
    listed = Table(
        [f"suspicious {noun}", noun, "its label", f"change of the suspicious {noun}'s loss without it"],
        against,
        f"Left out of training, these {noun}s would make the loss of the suspicious label fall most.",
        links=[anchors.get(name) for name, *_ in against],
    )
    return (
        Report(f"Label errors in {opened.title}", verdict(errors, opened), foot)
        .section(
            f"The most suspicious {noun}s",
            Warnings(warnings),
            *_pictures(opened, errors, evidence),
            frame_block(
                shown,
                f"The {len(shown):,} most suspicious of {len(frame):,} {noun}s. {counted_from}{meanings(errors)}",
                [anchors.get(name) for name in shown[noun]],
            ),
        )
        .section("What speaks against them", *beside, listed)
        .section(
            "All scores",
            meaning_block(quantity, errors.attribution.magnitude),
            Figure(
                histogram,
                f"The scores of all {noun}s.",
                f"Histogram of the {quantity.name} of all {len(frame):,} {noun}s",
            ),
        )
        .section("The model", *opened.blocks())
    )


def verdict(errors: Errors, opened: Source) -> str:
    """How many are suspicious, how sure the model is, and where to begin, in sentences."""
    from upweight.report.numbers import exact

    noun, found = opened.noun, errors.to_pandas()
    many = f"{errors.suspicious:,} of {len(found):,} {noun}s"
    share = f" ({errors.suspicious / len(found):.1%})"
    if isinstance(errors, TargetErrors):
        said = (
            f"The targets of {many}{share} lie more than four robust standard deviations from what the model would say"
        )
    else:
        said = f"{many}{share} have another label than the model would give them"
    said += f"{unseen(errors)}"
    if not errors.suspicious:
        return f"{said}: none of the {asked(errors)} is suspicious."
    first = found[found["suspicious"]].iloc[0]
    where = "" if opened.lines is None else f" (line {opened.lines[first['position']]} of the file)"
    sure = ""
    if "p_suggested" in found:
        surely = int((found["suspicious"] & (found["p_suggested"] > SURE)).sum())
        sure = f"; of {surely:,} it is more than {SURE:.0%} sure"
    given, suggested = (exact(each) if isinstance(each, float) else f"{each}" for each in (first["given"], first["suggested"]))  # noqa: E501  # fmt: skip
    return (
        f"{said}{sure}. Begin with {noun} {first['id']}{where}: it is {given}, and the model says {suggested}. Not "
        "each of these is an error: the model is wrong too. Check from the top, and stop where the "
        f"{asked(errors)} are right."
    )


def asked(errors: Errors) -> str:
    """What may be wrong: ``labels``, or ``values`` of a quantity."""
    return "values" if isinstance(errors, TargetErrors) else "labels"


def counted(errors: Errors) -> str:
    """How many are suspicious, and what that means, for a title."""
    many = f"{errors.suspicious:,} of {len(errors.order):,}"
    if isinstance(errors, TargetErrors):
        from upweight.report.numbers import readable

        far = 4 * errors.spread
        return f"{many} lie more than {readable(far, 4)}, four robust standard deviations, from what the model says"
    return f"{many} differ from the model's"


def meanings(errors: Errors) -> str:
    """What the columns of the table hold that don't say so themselves."""
    if isinstance(errors, TargetErrors):
        return f"suggested: what the model says{unseen(errors)}; error: the given number less that."
    return f"p_given, p_suggested: the model's probability of the label{unseen(errors)}."


def unseen(errors: Errors) -> str:
    """Whether what the model says is without the example, as the end of a sentence."""
    return "" if errors.method in ("self-influence", "loss") else " had it never seen them"


def side_by_side(opened: Source, errors: Errors, evidence: Evidence) -> list[Table]:
    """Of each of the first, a table of its columns beside those of the rows against it, what differs marked."""
    from upweight.cli.layout import APART, differs, spreads_of
    from upweight.report import Table
    from upweight.report.numbers import are_years

    frame, model = opened.train_table, opened.model
    if frame is None or model is None:
        return []
    spreads = spreads_of(frame)
    tables = []
    for row in errors.top(min(BESIDE, len(evidence))).to_dict("records"):
        others = evidence[row["id"]]
        example = opened.objective.data.take([row["position"]])[0][0].cpu().numpy()
        names = [str(frame.columns[0]), *model.weightiest_columns(example, COLUMNS)]
        values = frame[names].iloc[[row["position"], *(other["position"] for other in others)]]
        cells = values.astype(object).where(values.notna(), None).to_numpy()
        years = [are_years(frame[name]) for name in names]
        marked = [
            [False, False, *(differs(cells[0, place], other, spreads.get(name)) for other in cells[1:, place])]
            for place, name in enumerate(names)
        ]
        heads = ["", f"{opened.noun} {row['id']}", *(f"{opened.noun} {other['id']}" for other in others)]
        tables.append(
            Table(
                heads,
                [
                    [name, *(str(each) if years[place] and each is not None else each for each in cells[:, place])]
                    for place, name in enumerate(names)
                ],
                f"{row['rank']}. {opened.noun} {row['id']} and what speaks against its label most: the columns that "
                f"move the model most there; marked is what differs, of numbers by {APART:g} standard deviations.",
                marked=marked,
                anchor=f"{ANCHOR}{row['rank']}",
            )
        )
    return tables


def _pictures(opened: Source, errors: Errors, evidence: Evidence) -> list[Any]:
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
