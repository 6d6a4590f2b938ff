"""`upweight query`: the most helpful and most harmful training examples of some queries, from a store."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.job_options import Store, place_of
from upweight.cli.options import AsJson, Force, Quiet
from upweight.cli.session import session

if TYPE_CHECKING:
    import pandas as pd

    from upweight.store import Backend
    from upweight.stored import Stored

TOP = 5
SHOWN = 3
"""Queries in the terminal where none is named."""
ENDINGS = (".csv", ".parquet", ".npy", ".html")


def query(
    store: Store,
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUERY]...", help="Queries by id, else by position (default: the first few, all with --to).", show_default=False),  # noqa: E501
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", "-n", min=1, help=f"Examples of each side (default: {TOP}; with --to: all).")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="Write a file instead: .csv or .parquet (a row each, with columns), .npy (scores), .html."
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Show which training examples helped and harmed some queries most, with their ids and columns.

    Only the store is read: neither the study nor its model, and of the scores no more than is asked for.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.layout import meaning, meaning_json
        from upweight.cli.outputs import plan_file

        path = None if to is None else _planned(plan_file(to, "--to", force=force), top)
        place = place_of(store)
        stored = opened(place)
        rows = positions(stored, queries)
        if path is not None:
            run.stage(f"writing {path.name}")
            export(stored, path, top, rows)
            run.files = {"scores": path}
            run.result = {"store": str(place), "quantity": meaning_json(stored.quantity)}
            return
        shown = list(range(stored.shape[0]))[:SHOWN] if rows is None and len(stored.shape) > 1 else rows
        frame = stored.to_pandas(kept(stored, top), shown)
        run.result = {
            "store": str(place),
            "quantity": meaning_json(stored.quantity),
            "queries": as_records(stored, frame, shown),
        }
        if run.as_json:
            return
        for name, one in groups(stored, frame, shown):
            run.show(terminal(stored, name, one))
        run.show(meaning(stored.quantity, stored.magnitude))
        if rows is None and shown is not None and len(shown) < stored.shape[0]:
            run.show(f"These are the first {len(shown)} of {stored.shape[0]:,} queries; name others by id or position.")


def opened(place: Backend) -> Stored:
    """The store of a finished job.

    Raises
    ------
    InputError
        If there is none, or its job hasn't ended, with how far it is.
    """
    from upweight.errors import InputError
    from upweight.jobs.state import state
    from upweight.stored import Stored

    now = state(place)
    if now.outcome is None:
        raise InputError(
            f"{place}: its job is {now.words}, at {now.shards_done:,} of {now.shards:,} shards; `upweight resume "
            f"{place}` goes on with it"
        )
    return Stored.open(place)


def positions(stored: Stored, queries: Sequence[str] | None) -> list[int] | None:
    """Positions of queries that were named by id, or else by position; None where none is.

    Raises
    ------
    InputError
        If there is no such query.
    """
    from upweight.errors import InputError

    if not queries:
        return None
    if len(stored.shape) == 1:
        raise InputError(f"QUERY: {stored.backend} holds self-influence, which has no queries; leave {queries[0]} out")
    names = {str(name): place for place, name in enumerate(stored.query_ids.tolist())}
    count = stored.shape[0]
    found = []
    for name in queries:
        place = names.get(name, int(name) if name.isascii() and name.isdigit() else count)
        if place >= count:
            some = ", ".join(list(names)[:3])
            raise InputError(f"QUERY: {name!r} is neither an id ({some} …) nor a position (0 … {count - 1}) of a query")
        found.append(place)
    return found


def kept(stored: Stored, top: int | None) -> int:
    """Examples of each side: what was asked for, else the usual number or as many as the store keeps.

    Raises
    ------
    InputError
        If the store keeps fewer than asked for.
    """
    from upweight.errors import InputError

    least = stored.shape[-1] if stored.top_k is None else stored.top_k
    if top is not None and stored.top_k is not None and top > stored.top_k:
        raise InputError(f"--top: {stored.backend} keeps {stored.top_k} of each side (--top-k); give no more")
    return min(TOP, least) if top is None else min(top, stored.shape[-1])


def export(stored: Stored, path: Path, top: int | None, rows: list[int] | None) -> None:
    """Write scores as a file of the kind that its name ends in."""
    from upweight import files
    from upweight.spreadsheets import as_csv

    k = None if top is None else kept(stored, top)
    ending = path.suffix.lower()
    if ending == ".html":
        from upweight.cli.scores_page import scores_page

        files.write(path, scores_page(stored, f"Scores in {stored.backend}", rows, kept(stored, top)).html())
    elif ending == ".npy":
        stored.to_numpy(path, rows)
    elif ending == ".parquet":
        stored.to_parquet(path, k, rows)
    else:

        def fill(stream: Any) -> None:
            for number, frame in enumerate(stored.frames(k, rows)):
                stream.write(as_csv(frame, header=number == 0))

        files.write(path, fill)


def groups(stored: Stored, frame: pd.DataFrame, shown: Sequence[int] | None) -> list[tuple[Any, pd.DataFrame]]:
    """A table's rows by query, with its name; None of self-influence."""
    if len(stored.shape) == 1 or shown is None:
        return [(None, frame)]
    each = len(frame) // len(shown)
    names = stored.query_ids.tolist()
    return [(names[place], frame.iloc[each * k : each * (k + 1)]) for k, place in enumerate(shown)]


def as_records(stored: Stored, frame: pd.DataFrame, shown: Sequence[int] | None) -> list[dict[str, Any]]:
    """Queries with their examples, for machines."""
    found = []
    places: Sequence[int | None] = [None] if shown is None else shown
    for (name, one), place in zip(groups(stored, frame, shown), places, strict=True):
        rows = one.drop(columns="query", errors="ignore").to_dict("records")
        most, least = sides(stored)
        of = {} if name is None else {"query": name, "position": place}
        found.append({**of, most: [row for row in rows if row["rank"] > 0], least: [row for row in rows if row["rank"] < 0]})  # noqa: E501  # fmt: skip
    return found


def sides(stored: Stored) -> tuple[str, str]:
    """What ranks from 1 and from −1 are called."""
    return ("helpful", "harmful") if stored.quantity.helpful_sign else ("largest", "smallest")


def terminal(stored: Stored, name: Any, frame: pd.DataFrame) -> Any:
    """A table of one query, with as many columns as fit the terminal."""
    from upweight.cli.layout import table
    from upweight.report.numbers import signed

    most, least = sides(stored)
    title = f"{most} and {least}".capitalize() if name is None else f"Query {name}: {most} and {least}"
    own = [column for column in frame.columns if column not in ("query", "rank", "id", "position", "score")]
    own = [*(["position"] if (frame["id"] != frame["position"]).any() else []), *own]
    head = ["", "id", f"score [{stored.quantity.unit}]"]
    body = [
        [most if row["rank"] > 0 else least, row["id"], signed(row["score"])] for row in frame.to_dict("records")
    ]  # fmt: skip
    fitting = _fitting(head, body, {column: frame[column].tolist() for column in own})
    for row, values in zip(body, zip(*(frame[column].tolist() for column in fitting), strict=True), strict=False):
        row += values
    rule = int((frame["rank"] > 0).sum()) - 1
    left = [column for column in own if column not in fitting]
    if left:
        title += f" (without {', '.join(map(str, left))}: too wide)"
    return table(title, [*head, *fitting], body, sections=[rule])


def _fitting(head: list[str], body: list[list[Any]], columns: dict[str, list[Any]]) -> list[str]:
    """The first columns that the terminal is wide enough for."""
    from upweight.cli.layout import WIDEST

    def width(name: str, values: list[Any]) -> int:
        return max(min(len(str(value)), WIDEST) for value in [name, *values]) + 2

    left = shutil.get_terminal_size().columns
    left -= sum(width(name, [row[k] for row in body]) for k, name in enumerate(head))
    found = []
    for name, values in columns.items():
        left -= width(str(name), values)
        if left < 0:
            break
        found.append(name)
    return found


def _planned(path: Path, top: int | None) -> Path:
    """A place for a file of a kind that there is.

    Raises
    ------
    InputError
        If it is of none, or ``--top`` goes with all scores.
    """
    from upweight.errors import InputError

    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"--to: {path} ends in none of {', '.join(ENDINGS)}")
    if ending == ".npy" and top is not None:
        raise InputError("--to: .npy holds all scores of a query; leave --top out, or give .csv or .parquet")
    return path
