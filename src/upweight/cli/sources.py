"""What `explain` and `verify` look at, whether it came as a CSV or as a study file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import typer

from upweight.cli.options import TableOptions
from upweight.cli.study_file import is_study, read_study
from upweight.data import Data
from upweight.errors import InputError
from upweight.objective import Objective

if TYPE_CHECKING:
    from upweight.report import Table
    from upweight.tabular import LabelledTable, Trained
    from upweight.tasks import Predictions

HELD_OUT = 0.2
SHOWN_COLUMNS = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A trained objective with queries, and how to show both to a person.

    ``train_frame`` and ``query_frame`` hold the rows' values of a CSV, the target first; ``train_table`` and
    ``query_table`` what groups are chosen by, be it of a CSV or of a study. ``noun`` is what an example is called,
    ``model`` the trained model of a CSV, ``lines`` where each training row begins in its file.
    """

    title: str
    noun: str
    objective: Objective
    queries: Data
    query_ids: np.ndarray
    class_names: tuple[str, ...] | None
    chosen: int | None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    train_frame: pd.DataFrame | None = None
    query_frame: pd.DataFrame | None = None
    images: Any = None
    query_images: Any = None
    weightiest: Callable[[int], list[str]] | None = None
    train_table: pd.DataFrame | None = None
    query_table: pd.DataFrame | None = None
    model: Trained | None = None
    lines: np.ndarray | None = None

    @property
    def columns(self) -> dict[str, dict[str, Any]] | None:
        """What every column of a CSV was taken for; None of a study file."""
        return None if self.model is None else self.model.columns.described()

    def columns_block(self) -> list[Table]:
        """The same as a table of a report; empty of a study file."""
        from upweight.report import Table

        rows = [
            [name, found["taken_for"], found.get("levels"), found.get("reason") or found.get("note", "")]
            for name, found in (self.columns or {}).items()
        ]
        return [Table(["column", "taken for", "levels", "why"], rows, "What every column was taken for.")] * bool(rows)

    def predictions(self) -> Predictions | None:
        """What the model says of the queries; None where the loss knows no classes."""
        from upweight.tasks import predictions

        try:
            return predictions(self.objective, self.queries)
        except InputError:
            return None

    def query(self) -> int:
        """The query asked for, else the wrong prediction of highest loss."""
        if self.chosen is not None:
            return self.chosen
        said = self.predictions()
        return int(self.objective.losses(self.queries).argmax()) if said is None else said.hardest()


NONE = TableOptions()


def open_source(
    path: Path, target: str | None, row: int | None, query: int | None, seed: int, options: TableOptions = NONE
) -> Source:
    """Read a CSV or run a study file; train where need be."""
    if is_study(path):
        options.refuse_for_study()
        if target is not None or row is not None:
            raise typer.BadParameter("--target and --row are for CSV files; a study file takes --query")
        return _from_study(path, query)
    if query is not None:
        raise typer.BadParameter("--query is for study files; a CSV takes --row")
    if target is None:
        raise typer.BadParameter(f"{path.name}: say which column holds the class, with --target COLUMN")
    return _from_csv(path, target, [] if row is None else [row], seed, options)


def open_rows(
    path: Path,
    target: str | None,
    rows: Sequence[int] | None,
    test: Path | None,
    seed: int,
    options: TableOptions = NONE,
) -> Source:
    """The same for commands that ask about several rows of a CSV at once, or choose among all that are held out.

    ``test``: another CSV whose rows are asked about; then all rows of the first are trained on.
    """
    if is_study(path) or target is None:
        if test is not None:
            raise typer.BadParameter("--test is for CSV files; a study file gives its own queries")
        return open_source(path, target, rows[0] if rows else None, None, seed, options)
    return _from_csv(path, target, rows or [], seed, options, test)


def _from_study(path: Path, query: int | None) -> Source:
    study = read_study(path)
    queries = study.objective.queries(study.queries)
    if query is not None and query >= len(queries):
        raise InputError(f"--query: {path.name} has queries 0 … {len(queries) - 1}; got {query}")
    return Source(
        title=path.name,
        noun="example",
        objective=study.objective,
        queries=queries,
        query_ids=np.arange(len(queries)) if study.query_ids is None else np.asarray(study.query_ids),
        class_names=None if study.class_names is None else tuple(study.class_names),
        chosen=query,
        facts={
            "model": type(study.objective.model).__name__,
            "loss": type(study.objective.loss).__name__,
            "training examples": study.objective.n,
            "parameters": study.objective.p,
            "queries": len(queries),
        },
        images=study.images,
        query_images=study.query_images,
        train_table=study.table,
        query_table=study.query_table,
    )


def _read(path: Path, target: str, options: TableOptions) -> LabelledTable:
    from upweight.tabular import read_labelled

    return read_labelled(path, target, options.choice, aside=options.aside, task=cast("Any", options.task))


def _train(table: LabelledTable, options: TableOptions, seed: int) -> Trained:
    from upweight.tabular import train

    return train(table, cast("Any", options.model), options.estimator, seed=seed)


def _from_csv(
    path: Path, target: str, rows: Sequence[int], seed: int, options: TableOptions, test: Path | None = None
) -> Source:
    from upweight.tabular import read_more

    table = _read(path, target, options)
    if test is None:
        train, held_out = split(table, rows, seed)
    else:
        train, held_out = table, read_more(test, table)
        _positions(held_out, rows)
    model = _train(train, options, seed)
    queries = model.objective.queries(model.queries(held_out))
    encoded = model.queries(held_out)[0]
    return Source(
        title=table.name,
        noun="row",
        objective=model.objective,
        queries=queries,
        query_ids=held_out.rows,
        class_names=table.classes or None,
        chosen=int(np.flatnonzero(held_out.rows == rows[0])[0]) if rows else None,
        facts=model_facts(model),
        notes=(*model.notes, *(() if test is None else held_out.notes)),
        train_frame=train.shown(),
        query_frame=held_out.shown(),
        weightiest=lambda position: model.weightiest_columns(encoded[position], SHOWN_COLUMNS),
        train_table=train.complete(),
        query_table=held_out.complete(),
        model=model,
        lines=_lines(train),
    )


def open_training(path: Path, target: str | None, seed: int, options: TableOptions = NONE) -> Source:
    """The same for commands that ask about the training examples: of a CSV all rows are trained on."""
    if is_study(path) or target is None:
        return open_source(path, target, None, None, seed, options)
    table = _read(path, target, options)
    model = _train(table, options, seed)
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
        train_frame=table.shown(),
        model=model,
        lines=_lines(table),
    )


def _lines(table: LabelledTable) -> np.ndarray | None:
    """The line of the file that each row begins on; None of what has no lines."""
    return None if table.written is None else np.array(table.written.lines())[table.rows]


def split(table: LabelledTable, rows: Sequence[int], seed: int) -> tuple[LabelledTable, LabelledTable]:
    """Rows to train on and rows held out, a fifth of every class or group; ``rows`` are held out in any case.

    Where rows belong together, those of the same group go with them.
    """
    from upweight.tabular import held_out

    asked = _positions(table, rows)
    if table.groups is not None and len(asked):
        asked = np.flatnonzero(np.isin(table.groups, table.groups[asked]))
    left_out = np.union1d(held_out(table, HELD_OUT, seed), asked)
    train = np.setdiff1d(np.arange(len(table)), left_out)
    return table.take(train), table.take(left_out)


def _positions(table: LabelledTable, rows: Sequence[int]) -> np.ndarray:
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
