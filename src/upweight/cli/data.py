"""`upweight data`: which data sets there are, and fetching them ahead of time."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from upweight import datasets
from upweight.datasets.registry import DatasetInfo

app = typer.Typer(help="List and fetch the data sets that the examples and experiments use.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the data sets: package, size, licence, whether cached, and what they hold."""
    infos = [datasets.info(name) for name in datasets.names()]
    if as_json:
        print(json.dumps([_describe(info) for info in infos], indent=2))
        return
    Console().print(_table(infos))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set's name, as `upweight data list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Fetch a data set into the cache, so that loading it needs no network."""
    try:
        was_cached = datasets.is_cached(name)
        started = time.perf_counter()
        path = datasets.fetch(name, progress=not as_json)
    except datasets.UnknownDataset as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    except datasets.DataUnavailable as error:
        _report(error, as_json)
        raise typer.Exit(1) from None
    seconds = time.perf_counter() - started
    if as_json:
        print(json.dumps({"name": name, "path": str(path), "was_cached": was_cached, "seconds": round(seconds, 3)}))
    else:
        how = "was in the cache" if was_cached else f"fetched in {seconds:.1f} s"
        Console().print(Text(f"{name}: {how}\n{path}"), soft_wrap=True)


def _describe(info: DatasetInfo) -> dict[str, Any]:
    return dataclasses.asdict(info) | {
        "holds": info.holds,
        "megabytes": round(info.megabytes, 1),
        "cached": datasets.is_cached(info.name),
    }


def _table(infos: list[DatasetInfo]) -> Table:
    table = Table(show_lines=True)
    for column in ("name", "package", "version"):
        table.add_column(column, overflow="fold")
    table.add_column("MB", justify="right", no_wrap=True)
    for column in ("licence", "cached", "holds"):
        table.add_column(column, overflow="fold")
    for info in infos:
        packages = "\n".join(f"{archive.client}: {archive.package}" for archive in info.archives)
        versions = "\n".join(archive.version for archive in info.archives)
        size = f"{info.megabytes:.1f}" if info.archives else "–"
        cached = "yes" if datasets.is_cached(info.name) else "no"
        package = packages or "with scikit-learn"
        cells = (info.name, package, versions or "–", size, info.licence, cached, info.description)
        table.add_row(*map(Text, cells))  # Text, because brackets in a cell are not markup
    return table


def _report(error: datasets.DataUnavailable, as_json: bool) -> None:
    if as_json:
        fields = {
            "dataset": error.dataset,
            "problem": error.problem,
            "tried": error.tried,
            "mend": error.mend,
        }
        print(json.dumps({"error": fields}))
        return
    parts = [error.problem, f"Tried: {error.tried}" if error.tried else "", f"To mend it: {error.mend}"]
    parts += getattr(error, "__notes__", [])
    body = Text("\n\n".join(part for part in parts if part))
    panel = Panel(body, title=f"{error.dataset} is not available", title_align="left", border_style="red")
    Console(stderr=True).print(panel)
