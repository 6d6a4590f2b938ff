"""`upweight data`: which data sets there are, and fetching them ahead of time."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from upweight import datasets
from upweight.cli.json_always import error_object
from upweight.cli.options import AsJson, Force
from upweight.datasets.registry import DatasetInfo

app = typer.Typer(help="List and fetch the data sets that the examples and experiments use.", no_args_is_help=True)

TERMINATED = 128 + signal.SIGTERM


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the data sets: what they hold, package, licence, size, and whether they are cached."""
    infos = [datasets.info(name) for name in datasets.names()]
    if as_json:
        print(json.dumps([_describe(info) for info in infos], indent=2))
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
    from upweight import files
    from upweight.messages import InputError

    try:
        if csv is not None:
            _refuse_csv(name, csv, force)
        was_cached = datasets.is_cached(name)
        started = time.perf_counter()
        with _ending_as_interrupted():
            path = datasets.fetch(name, progress=not as_json)
        if csv is not None:
            _write_csv(name, csv, force)
    except datasets.UnknownDataset as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    except (datasets.DataUnavailable, InputError, files.NotWrittenError) as error:
        _report(error, as_json)
        raise typer.Exit(1) from None
    seconds = time.perf_counter() - started
    if as_json:
        found = {"name": name, "path": str(path), "was_cached": was_cached, "seconds": round(seconds, 3)}
        print(json.dumps(found | ({} if csv is None else {"csv": str(csv)})))
        return
    how = "was in the cache" if was_cached else f"fetched in {seconds:.1f} s"
    Console().print(Text(f"{name}: {how}\n{path}"), soft_wrap=True)
    if csv is not None:
        Console().print(Text(f"table: {csv}"), soft_wrap=True)


@contextmanager
def _ending_as_interrupted() -> Iterator[None]:
    """SIGTERM as an exception, so that the client ends and what was downloaded by halves is cleared."""

    def end(*_: object) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_csv(name: str, csv: Path, force: bool) -> None:
    """Refuse, before anything is fetched, what could not become this file."""
    from upweight import files
    from upweight.messages import InputError

    tables = [each for each in datasets.names() if datasets.info(each).table]
    if not datasets.info(name).table:
        raise InputError(f"--csv: {name} is no table; {' and '.join(tables)} are")
    if csv.exists() and not force:
        raise InputError(f"--csv: {csv} is there already; give another name, or --force to replace it")
    files.check(csv)


def _write_csv(name: str, csv: Path, force: bool) -> None:
    from upweight import files
    from upweight.cli.spreadsheet import as_csv
    from upweight.messages import InputError

    try:
        files.write(csv, as_csv(datasets.load(name).drop(columns="split", errors="ignore")), replace=force)
    except FileExistsError:
        raise InputError(f"--csv: {csv} is there already; give another name, or --force to replace it") from None


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


def _report(error: Exception, as_json: bool) -> None:
    told = isinstance(error, datasets.DataUnavailable)
    if as_json:
        fields = ("dataset", "problem", "tried", "mend") if told else ()
        more = {name: getattr(error, name) for name in fields}
        print(error_object(type(error).__name__, str(error), **more))
        return
    parts = [str(error)]
    if isinstance(error, datasets.DataUnavailable):
        parts = [error.problem, f"Tried: {error.tried}" if error.tried else "", f"To mend it: {error.mend}"]
    parts += getattr(error, "__notes__", [])
    body = Text("\n\n".join(part for part in parts if part))
    title = f"{error.dataset} is not available" if isinstance(error, datasets.DataUnavailable) else "error"
    Console(stderr=True).print(Panel(body, title=title, title_align="left", border_style="red"))
