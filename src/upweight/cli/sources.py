"""What `explain` and `verify` look at, whether it came as a CSV or as a study file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import typer

from upweight.data import Data
from upweight.messages import InputError
from upweight.objective import Objective

if TYPE_CHECKING:
    from upweight.tabular import LabelledTable, Logistic
    from upweight.tasks import Predictions

HELD_OUT = 0.2
SHOWN_COLUMNS = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A trained objective with queries, and how to show both to a person.

    ``train_frame`` and ``query_frame`` hold the rows' values, the target first, where there is a table; ``noun``
    is what an example is called.
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


def open_source(path: Path, target: str | None, row: int | None, query: int | None, seed: int) -> Source:
    """Read a CSV or run a study file; train where need be."""
    if path.suffix.lower() == ".py":
        if target is not None or row is not None:
            raise typer.BadParameter("--target and --row are for CSV files; a study file takes --query")
        return _from_study(path, query)
    if query is not None:
        raise typer.BadParameter("--query is for study files; a CSV takes --row")
    if target is None:
        raise typer.BadParameter(f"{path.name}: say which column holds the class, with --target COLUMN")
    return _from_csv(path, target, row, seed)


def _from_study(path: Path, query: int | None) -> Source:
    from upweight.study import load

    study = load(path)
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
    )


def _from_csv(path: Path, target: str, row: int | None, seed: int) -> Source:
    from upweight.tabular import read_labelled, train_logistic

    table = read_labelled(path, target)
    train, held_out = split(table, row, seed)
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
        chosen=None if row is None else int(np.flatnonzero(held_out.rows == row)[0]),
        facts=model_facts(model),
        notes=model.notes,
        train_frame=train.complete(),
        query_frame=held_out.complete(),
        weightiest=lambda position: model.weightiest_columns(encoded[position], SHOWN_COLUMNS),
    )


def split(table: LabelledTable, row: int | None, seed: int) -> tuple[LabelledTable, LabelledTable]:
    """Rows to train on and rows held out, a fifth of every class; ``row`` is held out in any case."""
    from sklearn.model_selection import train_test_split

    train, held_out = train_test_split(
        np.arange(len(table)), test_size=HELD_OUT, stratify=table.labels, random_state=seed
    )
    if row is not None:
        found = np.flatnonzero(table.rows == row)
        if not len(found):
            raise InputError(
                f"--row: {table.path.name} has no row {row} with a {table.target!r}; rows are counted from 0 under "
                f"the header, to {int(table.rows[-1])}"
            )
        train, held_out = np.setdiff1d(train, found), np.union1d(held_out, found)
    return table.take(np.sort(train)), table.take(np.sort(held_out))


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
