"""`upweight info`: what a store is, how far its job is, and whether it is whole."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upweight.cli.job_options import Store, place_of
from upweight.cli.options import AsJson, Quiet
from upweight.cli.session import session

if TYPE_CHECKING:
    from upweight.jobs.state import State
    from upweight.store import Backend


def info(
    store: Store,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every block and compare it with its checksum; list the damaged.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what is in a store, how far its job is, who works on it, and what it belongs to.

    Nothing is changed, and no code of the study is run. With --verify, exit code 1 says that something is damaged.
    """
    faults: dict[str, str] = {}
    with session(as_json, quiet) as run:
        from upweight.cli.layout import facts, meaning, table
        from upweight.jobs.state import damaged, state

        place = place_of(store)
        now = state(place)
        run.show(facts("Scores in a store", facts_of(place, now)))
        run.result = as_json_of(place, now)
        if now.outcome is not None:
            run.show(meaning(*quantity_of(now)))
        if verify:
            run.stage("reading every block")
            faults = damaged(place, now)
            run.result["damaged"] = faults
            words = "Every block is whole" if not faults else f"{len(faults)} damaged blocks"
            run.show(table(words, ["block", "what is wrong"], faults.items()) if faults else f"\n{words}.")
            if faults:
                run.note(f"the damaged blocks are done anew by {_again(place)}")
    if faults:
        raise typer.Exit(1)


def quantity_of(now: State) -> tuple[Any, Any]:
    """What the scores are, and whether their sizes can be believed."""
    from upweight.attribution import Magnitude, Quantity

    assert now.outcome is not None
    return Quantity(**now.outcome["quantity"]), Magnitude(**now.outcome["magnitude"])


def facts_of(place: Backend, now: State) -> dict[str, Any]:
    """A job in names and values, for people."""
    from upweight.jobs.begun import begun

    array, settings, said = now.said["array"], now.said["settings"], now.said
    command = begun(place)
    queries = "each training example for itself" if array["queries"] is None else f"{array['queries']:,} queries"
    kept = "all" if said["top_k"] is None else f"the {said['top_k']:,} largest and smallest of each query"
    found = {
        "store": place,
        "kind": f"{said['kind']}: {queries} × {now.examples:,} training examples",
        "kept": f"{kept}, {array['dtype']}",
        "job": _job(now),
        "shards": f"{now.shards_done:,} of {now.shards:,} ({now.examples_done:,} of {now.examples:,} examples)",
        "rate": None if now.rate is None else f"{now.rate:,.3g} examples/s",
        "on disk": size(now.used),
        "study": None if command is None else command.study,
        "inverse": settings["inverse"],
        "damping": None if now.outcome is None else now.outcome["damping"],
        "solver": None if now.outcome is None else now.outcome["report"],
        "columns": ", ".join(said["columns"]) or None,
        "versions": ", ".join(f"{name} {version}" for name, version in said["versions"].items()),
        "belongs to": ", ".join(f"{name} {value}" for name, value in said["fingerprints"].items()),
    }
    return {name: value for name, value in found.items() if value is not None}


def as_json_of(place: Backend, now: State) -> dict[str, Any]:
    """The same for machines."""
    from upweight.jobs.begun import begun

    said, outcome, command = now.said, now.outcome or {}, begun(place)
    array = said["array"]
    return {
        "store": str(place),
        "kind": said["kind"],
        "state": now.words,
        "shape": [array["examples"]] if array["queries"] is None else [array["queries"], array["examples"]],
        "dtype": array["dtype"],
        "top_k": said["top_k"],
        "shards": {"done": now.shards_done, "total": now.shards},
        "examples": {"done": now.examples_done, "total": now.examples},
        "examples_per_second": now.rate,
        "seconds_left": now.seconds_left,
        "workers": now.workers,
        "worked_on_by": now.holder,
        "bytes": now.used,
        "study": None if command is None else command.study,
        "options": None if command is None else command.options,
        "columns": list(said["columns"]),
        "settings": said["settings"],
        "fingerprints": said["fingerprints"],
        "versions": said["versions"],
        "quantity": outcome.get("quantity"),
        "damping": outcome.get("damping"),
        "solver": outcome.get("report"),
        "magnitude": outcome.get("magnitude"),
        "facts": outcome.get("facts"),
    }


def _job(now: State) -> str:
    left = now.seconds_left
    if now.words == "running":
        many = "" if now.workers is None else f", {now.workers} worker{'s' * (now.workers != 1)}"
        end = "" if left is None else f", about {timedelta(seconds=round(left))} left"
        return f"running (process {now.holder}{many}{end})"
    if now.words == "stopped" and left is not None:
        return f"stopped, about {timedelta(seconds=round(left))} left at its last rate"
    return now.words


def _again(place: Backend) -> str:
    from upweight.jobs.begun import begun

    return "running the same program again" if begun(place) is None else f"`upweight resume {place}`"


def size(count: int) -> str:
    """Bytes in words: ``1.2 MB``.

    >>> size(999), size(1_234_567)
    ('999 bytes', '1.23 MB')
    """
    if count < 1000:
        return f"{count} bytes"
    units = ("kB", "MB", "GB", "TB", "PB")
    value, unit = count / 1000, 0
    while value >= 999.5 and unit < len(units) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {units[unit]}"
