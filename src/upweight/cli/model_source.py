"""A fitted pipeline of one's own, with the table that it was fitted on, as a source."""

from __future__ import annotations

from pathlib import Path

from upweight.cli.csv_source import model_facts, positions
from upweight.cli.options import TableOptions
from upweight.cli.source import Source
from upweight.errors import InputError

ENDINGS = (".joblib", ".pkl", ".pickle")


def is_model(path: Path) -> bool:
    """Whether this is a file of joblib's or pickle's, by its name."""
    return path.suffix.lower() in ENDINGS


def from_model(
    model: Path,
    table: Path | None,
    target: str | None,
    row: int | None,
    options: TableOptions,
    *,
    trust: bool,
    test: Path | None = None,
    whole: bool = False,
) -> Source:
    """Load a model, read its table, and ask about its rows, or those of another file.

    ``whole``: all rows are asked about, which goes without saying.

    Raises
    ------
    InputError
        If it isn't to be trusted, no table or target is named, or options are given that only train a model.
    """
    _refuse(model, table, target, options, trust=trust)
    assert table is not None
    assert target is not None
    from upweight.tabular import of_model, read_more

    found = of_model(model, table, target, options.weight)
    train, objective = found.table, found.objective
    asked = train if test is None else read_more(test, train)
    chosen = None if row is None else int(positions(asked, [row])[0])
    beside = () if test is None else asked.notes
    if test is None and not whole:
        beside = ("the query is a row that the model was fitted on; --test FILE asks about others",)
    return Source(
        title=f"{model.name} on {train.name}",
        noun="row",
        objective=objective,
        queries=objective.data if test is None else objective.queries(found.queries(asked)),
        query_ids=asked.rows,
        class_names=train.classes or None,
        chosen=chosen,
        facts=model_facts(found),
        notes=(*found.notes, *beside),
        train_table=train.shown(),
        query_table=asked.shown(),
        model=found,
        lines=train.lines,
        query_lines=asked.lines,
    )


def _refuse(model: Path, table: Path | None, target: str | None, options: TableOptions, *, trust: bool) -> None:
    if table is None:
        raise InputError(f"{model.name}: is a model; give the table that it was fitted on behind it")
    if target is None:
        raise InputError(f"{table.name}: say which column {model.name} predicts, with --target COLUMN")
    odd = options.of_training
    if odd is not None:
        raise InputError(f"{odd}: is for training a model; {model.name} is fitted already, leave it out")
    if not trust:
        raise InputError(
            f"{model}: joblib and pickle files run whatever code they hold when they are loaded; if you made this one "
            "yourself or trust whoever did, give --trust"
        )
