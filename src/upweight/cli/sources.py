"""What the commands look at, whether it came as a CSV or as a study file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import typer

from upweight.cli.study_file import is_study, read_study
from upweight.data import Data
from upweight.errors import InputError
from upweight.frameworks.shown import columns_like
from upweight.objective import Objective

if TYPE_CHECKING:
    from upweight.report import Block
    from upweight.tabular import Choice, LabelledTable, Logistic
    from upweight.tasks import Predictions

HELD_OUT = 0.2
SHOWN_COLUMNS = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A trained objective with queries, and how to show both to a person.

    ``train_table`` and ``query_table`` hold what is known of training examples and queries, be it of a study or of a
    CSV, the target first. ``noun`` is what an example is called, ``model`` the logistic model of a CSV, ``tokens`` and
    ``query_tokens`` the texts of a study's tokens, where it gives them.
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
    images: Any = None
    query_images: Any = None
    weigh: Callable[[int], list[str]] | None = None
    tokens: Sequence[Sequence[str]] | None = None
    query_tokens: Sequence[Sequence[str]] | None = None
    train_table: pd.DataFrame | None = None
    query_table: pd.DataFrame | None = None
    model: Logistic | None = None

    @property
    def columns(self) -> dict[str, dict[str, Any]] | None:
        """What every column of a CSV was taken for; None of a study file."""
        return None if self.model is None else self.model.columns.described()

    @property
    def values(self) -> pd.DataFrame | None:
        """What is shown beside a training example's label: of a CSV all columns but the target."""
        return self.train_table if self.train_table is None or self.model is None else self.train_table.iloc[:, 1:]

    def weightiest(self, position: int) -> list[str]:
        """Columns for a terminal: of a CSV those that weigh most in the prediction, of a study the first few."""
        if self.weigh is not None:
            return self.weigh(position)
        return [] if self.train_table is None else list(self.train_table.columns[:SHOWN_COLUMNS])

    def blocks(self) -> list[Block]:
        """The model in figures, what every column of a CSV was taken for, and notes, for a report."""
        from upweight.report import Facts, Table, Text

        rows = [
            [name, found["taken_for"], found.get("levels"), found.get("reason") or found.get("note", "")]
            for name, found in (self.columns or {}).items()
        ]
        columns = [Table(["column", "taken for", "levels", "why"], rows, "What every column was taken for.")]
        notes = [Text("\n\n".join(f"Note: {note}." for note in self.notes))]
        return [Facts(self.facts), *columns[: bool(rows)], *notes[: bool(self.notes)]]

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


def open_source(
    path: Path, target: str | None, row: int | None, query: int | None, seed: int, choice: Choice | None = None
) -> Source:
    """Read a CSV or run a study file; train where need be."""
    if is_study(path):
        _no_choice(choice)
        if target is not None or row is not None:
            raise typer.BadParameter("--target and --row are for CSV files; a study file takes --query")
        return _from_study(path, query)
    if query is not None:
        raise typer.BadParameter("--query is for study files; a CSV takes --row")
    if target is None:
        raise typer.BadParameter(f"{path.name}: say which column holds the class, with --target COLUMN")
    return _from_csv(path, target, [] if row is None else [row], seed, choice=choice)


def open_rows(
    path: Path,
    target: str | None,
    rows: Sequence[int] | None,
    test: Path | None,
    seed: int,
    choice: Choice | None = None,
) -> Source:
    """The same for commands that ask about several rows of a CSV at once, or choose among all that are held out.

    ``test``: another CSV whose rows are asked about; then all rows of the first are trained on.
    """
    if is_study(path) or target is None:
        if test is not None:
            raise typer.BadParameter("--test is for CSV files; a study file gives its own queries")
        return open_source(path, target, rows[0] if rows else None, None, seed, choice)
    return _from_csv(path, target, rows or [], seed, test, choice)


def _no_choice(choice: Choice | None) -> None:
    if choice is not None and (choice.drop or choice.only):
        raise typer.BadParameter("--drop and --columns are for CSV files; a study file holds its own model")


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
        tokens=study.tokens,
        query_tokens=study.query_tokens,
        train_table=framed(study.objective.columns) if study.table is None else study.table,
        query_table=framed(columns_like(study.objective, queries)) if study.query_table is None else study.query_table,
    )


def framed(columns: Mapping[str, Any]) -> pd.DataFrame | None:
    """Columns as a table; None where there are none."""
    return pd.DataFrame({name: list(values) for name, values in columns.items()}) if columns else None


def texts_of(table: pd.DataFrame | None, name: str | None, whose: str) -> list[str]:
    """A table's column of texts: the one that is named, else ``text``, else the only one that holds text.

    Raises
    ------
    InputError
        If there is no such column, or there are several.
    """
    frame = pd.DataFrame() if table is None else table
    columns = [str(column) for column in frame.columns]
    written = [column for column in columns if pd.api.types.is_string_dtype(frame[column].dropna())]
    found = name if name is not None else "text" if "text" in written else written[0] if len(written) == 1 else None
    if found is None or found not in columns:
        asked = "which column holds the texts isn't known" if name is None else f"there is no column {name!r}"
        raise InputError(f"--text: {asked} of {whose}; name one of {columns}")
    return ["" if pd.isna(text) is True else str(text) for text in frame[found]]


def _from_csv(
    path: Path,
    target: str,
    rows: Sequence[int],
    seed: int,
    test: Path | None = None,
    choice: Choice | None = None,
) -> Source:
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


def open_training(path: Path, target: str | None, seed: int, choice: Choice | None = None) -> Source:
    """The same for commands that ask about the training examples: of a CSV all rows are trained on."""
    from upweight.tabular import read_labelled, train_logistic

    if is_study(path) or target is None:
        return open_source(path, target, None, None, seed, choice)
    table = read_labelled(path, target, choice)
    model = train_logistic(table, seed=seed)
    return Source(
        title=path.name,
        noun="row",
        objective=model.objective,
        queries=model.objective.data,
        query_ids=table.rows,
        class_names=table.classes,
        chosen=None,
        facts=model_facts(model),
        notes=model.notes,
        train_table=table.complete(),
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
