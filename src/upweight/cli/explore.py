"""`upweight explore`: a local page on a store, to look at examples and to decide about them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.explain import ByToken
from upweight.cli.options import (
    AsJson,
    Drop,
    Estimator,
    Model,
    ModelKind,
    Only,
    Quiet,
    RowGroup,
    Seed,
    Target,
    Task,
    TaskName,
    Weight,
    table_options,
)
from upweight.cli.session import Session, session

if TYPE_CHECKING:
    from upweight.explore.contents import Contents
    from upweight.explore.serve import Door
    from upweight.store import Backend

QUERIES = 200
"""Held-out rows of a CSV that are asked about, unless another number is given."""


def explore(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR|STUDY.py|FILE.csv]", show_default=False,
            help="Where `upweight attribute` put its scores; or a study file or a CSV, which are scored first.",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Explore the digits of `upweight demo`, 5 % of them mislabelled.")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", show_default="NAME.explore",
            help="Of a study or a CSV: where its scores go, or are already.",
        ),
    ] = None,
    target: Target = None,
    drop: Drop = None,
    only: Only = None,
    weight: Weight = None,
    group: RowGroup = None,
    task: Task = TaskName.auto,
    model: Model = ModelKind.auto,
    estimator: Estimator = None,
    queries: Annotated[
        int, typer.Option(min=1, help="CSV: held-out rows to ask about, wrong ones and those of highest loss first.")
    ] = QUERIES,
    tokens: ByToken = None,
    seed: Seed = 0,
    host: Annotated[
        str,
        typer.Option(help="127.0.0.1 is seen by this machine alone; others are seen with the token in the address."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The first to try; 0: any.")] = 8765,
    who: Annotated[
        str | None, typer.Option(help="Whose decisions they are (default: the user's name).", show_default=False)
    ] = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="Make the store, and open no page.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Open a page on examples and their scores, and keep what you decide about them.

    Queries with what helped and harmed them; training examples with what speaks against their label or value, their
    nearest, a map; keys to keep, relabel or exclude one. Decisions go into the store; `upweight clean` applies them.
    """
    page: tuple[Contents, str, Door] | None = None
    with session(as_json, quiet) as run:
        from upweight.optional import require

        require("explore", "upweight explore")
        from upweight.cli.explored import opened
        from upweight.explore.contents import Contents
        from upweight.explore.decisions import LOOSE, user

        options = table_options(drop, only, weight, group, task, model, estimator)
        given = _source(source, demo)
        if demo:
            _in_one_thread()
        place = opened(run, given, store, target, options, queries, seed, tokens)
        contents = Contents(place)
        contents.decisions.compact(LOOSE)
        run.result = {"store": str(place), **contents.summary()}
        if prepare:
            run.show(_counted(contents), f"`upweight explore {shlex.quote(str(place))}` opens the page.")
        else:
            from upweight.explore.serve import door

            found = door(host, port)
            run.result |= {"address": found.address}
            _told(run, place, contents, found)
            page = contents, who or user(), found
    if page is not None:
        from upweight.explore.serve import serve
        from upweight.spreadsheets import as_csv

        def table(rows: list[dict[str, Any]]) -> bytes:
            import pandas as pd

            return as_csv(pd.DataFrame(rows))

        serve(*page, table)


def _source(source: str | None, demo: bool) -> str:
    if demo == (source is not None):
        raise typer.BadParameter("give a store, a study file or a CSV; or --demo alone")
    if source is not None:
        return source
    from upweight import demo as demonstration

    return str(Path(demonstration.__file__))


def _in_one_thread() -> None:
    """What the demo is made in: its matrices are small, and on a busy machine two threads mostly wait for each other.

    Measured there, twice: 10 s of processor, where two threads took 14 and 76.
    """
    import torch

    torch.set_num_threads(1)


def _told(run: Session, place: Backend, contents: Contents, found: Door) -> None:
    if found.wanted and found.port != found.wanted:
        run.note(f"port {found.wanted} is in use; this page has {found.port}")
    if found.token is not None:
        run.note("other machines can reach this page; whoever has the address can decide")
    if not run.as_json:
        run.show(_counted(contents))
        run.print(f"page: {found.address}  (Ctrl-C ends)", soft_wrap=True)


def _counted(contents: Contents) -> str:
    return ", ".join(contents.counted())
