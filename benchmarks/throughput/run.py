"""Speed and memory beside peers: each measurement in its own process and environment, the systems in turn.

    python -m benchmarks.throughput.run                                # the problems of a CPU
    python -m benchmarks.throughput.run mlp gpt --systems ours --repeats 1
    python -m benchmarks.throughput.run --missing --precision float32,bfloat16
    python -m benchmarks.throughput.run --count                        # operations by stage of what was measured
    python -m benchmarks.throughput.run gpu-mlp --device cuda --precision float32,tf32

Each result is written to results.json at once; at the end RESULTS.md and its figure are made from all that is there.
For a whole GPU in one go see `benchmarks.throughput.gpu`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.fidelity.environments import PEERS
from benchmarks.fidelity.plan import OURS
from benchmarks.processes import found_by, machine
from benchmarks.throughput import record, report
from benchmarks.throughput.agreement import between
from benchmarks.throughput.problems import CPU, PROBLEMS, problem
from benchmarks.throughput.record import Case, Found, Row, derived, middle
from benchmarks.throughput.script import PRECISIONS
from benchmarks.throughput.tables import WIDTH, show

SYSTEMS = {"ours": OURS, "kronfluence": "kronfluence"}
"""By script."""

Work = Callable[..., dict[str, Any]]
"""Runs a system's script with arguments; the JSON that it prints."""


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # by which the measurement ends too
    reduced = options.small or options.train or options.queries
    if reduced and options.results == record.FILE:
        parser.error("measurements of a smaller size don't belong into results.json: give --results FILE")
    console, found = Console(width=WIDTH), record.load(options.results)
    for name in options.problems or list(CPU):
        scores: dict[tuple[str, str], Tensor] = {}
        for precision in options.precision:
            if options.count:
                count(name, precision, options, found, console)
                continue
            if options.missing and is_there(found, name, precision, systems(name, options.systems)):
                continue
            measure(name, precision, options, found, scores, console)
    report.write(options.results)
    show(found, console)


def systems(name: str, wanted: list[str]) -> list[str]:
    """The scripts that can do the problem."""
    return [script for script in wanted if script == "ours" or problem(name).hookable]


def is_there(found: Found, name: str, precision: str, scripts: list[str]) -> bool:
    """Whether each of the systems was measured."""
    rows = found.get(name, {}).get(precision, {}).get("rows", {})
    return all(SYSTEMS[script] in rows for script in scripts)


def count(name: str, precision: str, options: argparse.Namespace, found: Found, console: Console) -> None:
    """Operations of all systems that were measured on a problem, which no load of the machine changes."""
    rows = found.get(name, {}).get(precision, {}).get("rows", {})
    work = partial(found_by, threads=options.threads, limit=4 * options.limit)
    for script in systems(name, options.systems):
        if "stages" not in (row := rows.get(SYSTEMS[script], {})):
            continue
        done = work(SYSTEMS[script], f"benchmarks.throughput.{script}", *asked(name, precision, options), "--count")
        if "failed" not in done:
            row |= done
            record.save(found, options.results)
        words = done.get("failed", "operations counted")
        console.print(f"{name}, {precision} · {SYSTEMS[script]}: {words}", highlight=False)


def asked(name: str, precision: str, options: argparse.Namespace) -> list[object]:
    """A script's arguments."""
    given: list[object] = ["--problem", name, "--precision", precision, "--device", options.device]
    given += [f"--{size}={count}" for size in ("train", "queries") if (count := getattr(options, size)) is not None]
    return given + ["--small"] * options.small


def measure(
    name: str,
    precision: str,
    options: argparse.Namespace,
    found: Found,
    scores: dict[tuple[str, str], Tensor],
    console: Console,
) -> None:
    """One problem in one precision: all systems, again and again, so that a change of the machine meets all.

    ``scores``, by precision and system, are added to.
    """
    given = asked(name, precision, options)
    work = partial(found_by, threads=options.threads, limit=options.limit)
    facts = work(OURS, "benchmarks.throughput.facts", *given)
    if "failed" in facts:
        console.print(f"{name}, {precision}: {facts['failed']}", highlight=False)
        return
    old = found.get(name, {}).get(precision, {})
    place = described(options)
    is_alike = old and sizes(old["facts"]) == sizes(facts) and old["machine"] == place
    case: Case = {"facts": facts, "machine": place, "rows": old["rows"] if is_alike else {}}
    found.setdefault(name, {})[precision] = case
    with tempfile.TemporaryDirectory() as folder:
        scripts = systems(name, options.systems)
        for script, runs in in_turn(work, scripts, options.repeats, given, Path(folder)):
            case["rows"][SYSTEMS[script]] = row = derived(middle(runs), facts)
            record.save(found, options.results)
            console.print(f"{name}, {precision} · {SYSTEMS[script]}: {said(row)}", highlight=False)
        for script in scripts:
            if (answer := Path(folder) / script).exists():
                scores[precision, SYSTEMS[script]] = torch.load(answer)
    case.update(between(scores, precision, list(SYSTEMS.values())))
    record.save(found, options.results)


def sizes(facts: dict[str, Any]) -> list[Any]:
    """By which rows of an earlier run can stand beside those of this one."""
    return [facts.get(name) for name in ("train", "queries", "tokens", "parameters")]


def in_turn(work: Work, scripts: list[str], repeats: int, given: list[object], folder: Path) -> Any:
    """After every run the system's script and all of its runs so far; one that failed isn't run again."""
    runs: dict[str, list[Row]] = {script: [] for script in scripts}
    for _ in range(repeats):
        for script, so_far in runs.items():
            if not any("failed" in run for run in so_far):
                module = f"benchmarks.throughput.{script}"
                so_far.append(work(SYSTEMS[script], module, *given, "--answer", folder / script))
                yield script, so_far


def said(row: Row) -> str:
    """A row in a few words."""
    return row.get("failed") or f"{row['total']:.2f} s, {row['times_floor']:.1f} × floor ({row['repeats']} runs)"


def described(options: argparse.Namespace) -> dict[str, Any]:
    """The machine, and the versions on it."""
    device = {"device": torch.cuda.get_device_name()} if options.device == "cuda" else {}
    return machine(options.threads) | device | {"peer": PEERS["kronfluence"].pins[-1]}


def among(known: Any) -> Callable[[str], list[str]]:
    """A reader of some of them, between commas."""

    def read(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not among {', '.join(known)}")
        return text.split(",")

    return read


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", metavar="problem", help=f"of {', '.join(PROBLEMS)} (default: {[*CPU]})")
    parser.add_argument("--systems", type=among(SYSTEMS), default=list(SYSTEMS), help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--precision", type=among(PRECISIONS), default=["float32"], help=f"of {', '.join(PRECISIONS)}")
    parser.add_argument("--threads", type=int, default=2, help="for each system (default 2)")
    parser.add_argument("--repeats", type=int, default=3, help="of which medians are taken (default 3)")
    parser.add_argument("--train", type=int, help="training examples (default: the problem's)")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--small", action="store_true", help="the same forms at a size that takes no time")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--limit", type=float, default=1800, help="seconds of one measurement (default 1800)")
    parser.add_argument("--count", action="store_true", help="count operations of what the results hold, and time none")
    parser.add_argument("--missing", action="store_true", help="only what the results lack")
    parser.add_argument("--results", type=Path, default=record.FILE, help="the page stands beside it")
    return parser


if __name__ == "__main__":
    main()
