"""A CSV as a source: read, split, and a logistic model trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.cli.source import SHOWN_COLUMNS, Source
from upweight.errors import InputError

if TYPE_CHECKING:
    from upweight.tabular import Choice, LabelledTable, Logistic

HELD_OUT = 0.2


def from_csv(
    path: Path,
    target: str,
    rows: Sequence[int],
    seed: int,
    test: Path | None = None,
    choice: Choice | None = None,
) -> Source:
    """Read a CSV, hold a fifth of it out (or ask about another file), and train on the rest."""
    from upweight.tabular import read_labelled, read_more, train_logistic

    table = read_labelled(path, target, choice)
    if test is None:
        train, held_out = split(table, rows, seed)
    else:
        train, held_out = table, read_more(test, table)
        _positions(held_out, rows)
    model = train_logistic(train, seed=seed)
    queries = model.objective.queries(model.queries(held_out))
    encoded = model.queries(held_out)[0]
    return Source(
        title=path.name,
        noun="row",
        objective=model.objective,
        queries=queries,
        query_ids=held_out.rows,
        class_names=table.classes,
        chosen=int(np.flatnonzero(held_out.rows == rows[0])[0]) if rows else None,
        facts=model_facts(model),
        notes=(*model.notes, *(() if test is None else held_out.notes)),
        weigh=lambda position: model.weightiest_columns(encoded[position], SHOWN_COLUMNS),
        train_table=train.complete(),
        query_table=held_out.complete(),
        model=model,
    )


def split(table: LabelledTable, rows: Sequence[int], seed: int) -> tuple[LabelledTable, LabelledTable]:
    """Rows to train on and rows held out, a fifth of every class; ``rows`` are held out in any case."""
    from sklearn.model_selection import train_test_split

    train, held_out = train_test_split(
        np.arange(len(table)), test_size=HELD_OUT, stratify=table.labels, random_state=seed
    )
    asked = _positions(table, rows)
    train, held_out = np.setdiff1d(train, asked), np.union1d(held_out, asked)
    return table.take(np.sort(train)), table.take(np.sort(held_out))


def _positions(table: LabelledTable, rows: Sequence[int]) -> np.ndarray:
    """Positions of rows by their numbers; refuses those that the table doesn't have."""
    found = []
    for row in rows:
        position = np.flatnonzero(table.rows == row)
        if not len(position):
            raise InputError(
                f"--row: {table.path.name} has no row {row} with a {table.target!r}; rows are counted from 0 under "
                f"the header, to {int(table.rows[-1])}"
            )
        found.append(int(position[0]))
    return np.array(found, dtype=np.int64)


def model_facts(model: Logistic) -> dict[str, Any]:
    """The logistic model of a table in figures."""
    checked = model.validation
    return {
        "rows trained on": model.objective.n,
        "parameters": model.objective.p,
        "classes": len(model.table.classes),
        "λ (l2 of the weights)": checked.l2,
        "accuracy, cross-validated": checked.accuracy,
        "share of the largest class": checked.baseline,
        "log-loss, cross-validated": checked.log_loss,
    }
