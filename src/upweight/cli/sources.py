"""What the commands look at, whether it came as a CSV or as a study file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from upweight.cli.csv_source import from_csv, from_whole_csv
from upweight.cli.model_source import from_model, is_model
from upweight.cli.options import TableOptions
from upweight.cli.source import Source
from upweight.cli.study_file import is_study, read_study
from upweight.cli.texts import framed
from upweight.errors import InputError
from upweight.frameworks.shown import columns_like

NONE = TableOptions()


@dataclass(frozen=True)
class Asked:
    """What is asked about: a row of a table, of another one (``test``), or a query of a study."""

    target: str | None
    row: int | None = None
    query: int | None = None
    test: Path | None = None


def open_asked(
    path: Path, table: Path | None, asked: Asked, options: TableOptions, seed: int, *, trust: bool
) -> Source:
    """Read a CSV, a fitted model with its ``table``, or a study file."""
    if not is_model(path):
        _refuse_table(path, table, trust=trust)
        if asked.test is None:
            return open_source(path, asked.target, asked.row, asked.query, seed, options)
    if asked.query is not None:
        raise typer.BadParameter("--query is for study files; a table takes --row")
    if is_model(path):
        return from_model(path, table, asked.target, asked.row, options, trust=trust, test=asked.test)
    return open_rows(path, asked.target, None if asked.row is None else [asked.row], asked.test, seed, options)


def open_whole(
    path: Path, table: Path | None, target: str | None, options: TableOptions, seed: int, *, trust: bool
) -> Source:
    """The same for commands that ask about all training examples."""
    if is_model(path):
        return from_model(path, table, target, None, options, trust=trust, whole=True)
    _refuse_table(path, table, trust=trust)
    return open_training(path, target, seed, options)


def _refuse_table(path: Path, table: Path | None, *, trust: bool) -> None:
    if table is not None:
        raise InputError(f"{table}: a second file goes with a model (.joblib, .pkl); {path.name} is none")
    if trust:
        raise InputError(f"--trust: is for a model's file (.joblib, .pkl); {path.name} is none, leave it out")


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
    return from_csv(path, target, [] if row is None else [row], seed, options)


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
    return from_csv(path, target, rows or [], seed, options, test)


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


def open_training(path: Path, target: str | None, seed: int, options: TableOptions = NONE) -> Source:
    """The same for commands that ask about the training examples: of a CSV all rows are trained on."""
    if is_study(path) or target is None:
        return open_source(path, target, None, None, seed, options)
    return from_whole_csv(path, target, seed, options)
