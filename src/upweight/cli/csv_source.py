"""A table as a source: read, split, and a model trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from upweight.cli.options import TableOptions
from upweight.cli.source import Source
from upweight.errors import InputError

if TYPE_CHECKING:
    from upweight.tabular import LabelledTable, Trained

HELD_OUT = 0.2


def from_csv(
    path: Path, target: str, rows: Sequence[int], seed: int, options: TableOptions, test: Path | None = None
) -> Source:
    """Read a table, hold a fifth of it out (or ask about another file), and train on the rest."""
    from upweight.tabular import read_more

    table = read(path, target, options)
    if test is None:
        train, held_out = split(table, rows, seed)
    else:
        train, held_out = table, read_more(test, table)
        positions(held_out, rows)
    model = trained(train, options, seed)
    return Source(
        title=table.name,
        noun="row",
        objective=model.objective,
        queries=model.objective.queries(model.queries(held_out)),
        query_ids=held_out.rows,
        class_names=table.classes or None,
        chosen=int(np.flatnonzero(held_out.rows == rows[0])[0]) if rows else None,
        facts=model_facts(model),
        notes=(*model.notes, *(() if test is None else held_out.notes)),
        train_table=train.shown(),
        query_table=held_out.shown(),
        typed=(train.complete(), held_out.complete()),
        model=model,
        lines=train.lines,
        query_lines=held_out.lines,
    )


def from_whole_csv(path: Path, target: str, seed: int, options: TableOptions) -> Source:
    """Read a table and train on all its rows, which are asked about."""
    table = read(path, target, options)
    model = trained(table, options, seed)
    return Source(
        title=table.name,
        noun="row",
        objective=model.objective,
        queries=model.objective.data,
        query_ids=table.rows,
        class_names=table.classes or None,
        chosen=None,
        facts=model_facts(model),
        notes=model.notes,
        train_table=table.shown(),
        model=model,
        lines=table.lines,
        query_lines=table.lines,
    )


def read(path: Path, target: str, options: TableOptions) -> LabelledTable:
    """Read a table as the options say."""
    from upweight.tabular import read_labelled

    return read_labelled(path, target, options.choice, aside=options.aside, task=cast("Any", options.task))


def trained(table: LabelledTable, options: TableOptions, seed: int) -> Trained:
    """Train the model that the options ask for."""
    from upweight.tabular import train

    return train(table, cast("Any", options.model), options.estimator, seed=seed)


def split(table: LabelledTable, rows: Sequence[int], seed: int) -> tuple[LabelledTable, LabelledTable]:
    """Rows to train on and rows held out, a fifth of every class or group; ``rows`` are held out in any case.

    Where rows belong together, those of the same group go with them.
    """
    from upweight.tabular import held_out

    asked = positions(table, rows)
    if table.groups is not None and len(asked):
        asked = np.flatnonzero(np.isin(table.groups, table.groups[asked]))
    left_out = np.union1d(held_out(table, HELD_OUT, seed), asked)
    train = np.setdiff1d(np.arange(len(table)), left_out)
    return table.take(train), table.take(left_out)


def positions(table: LabelledTable, rows: Sequence[int]) -> np.ndarray:
    """Positions of rows by their numbers; refuses those that the table doesn't have."""
    found = []
    for row in rows:
        position = np.flatnonzero(table.rows == row)
        if not len(position):
            raise InputError(
                f"--row: {table.name} has no row {row} with a {table.target!r}; rows are counted from 0 under "
                f"the header, to {int(table.rows[-1])}"
            )
        found.append(int(position[0]))
    return np.array(found, dtype=np.int64)


def model_facts(model: Trained) -> dict[str, Any]:
    """The model of a table in figures."""
    classes = {"classes": len(model.table.classes)} if model.table.classifies else {}
    return {
        "model": model.kind,
        "rows trained on": model.objective.n,
        "parameters": model.objective.p,
        **classes,
        **model.validation.facts(),
    }
