"""Beside peers: each measurement in its own process and environment, one system after the other.

    python -m benchmarks.fidelity.run                                   # retraining: what fits into the budget
    python -m benchmarks.fidelity.run --missing                         # and then what is left
    python -m benchmarks.fidelity.run --tasks digits --systems upweight,pydvl --variants "auto;EK-FAC"
    python -m benchmarks.fidelity.run --missing --large --budget 60
    python -m benchmarks.fidelity.run --tasks 1-vs-7,ten-digits         # speed on convex tasks

Each result is written to results.json at once; a further run renews only what it measures. At the end RESULTS.md and
its figures are made from all that is there.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.fidelity import environments, report, retraining, speed
from benchmarks.fidelity.bench import Bench
from benchmarks.fidelity.models import CONVEX, RETRAINED, TASKS
from benchmarks.fidelity.plan import OURS


def names(known: list[str] | tuple[str, ...]) -> Any:
    """A reader of some of them, between commas."""

    def read(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return text.split(",")

    return read


def arguments() -> argparse.Namespace:
    """What is asked for."""
    peers = [name for name in environments.PEERS if (Path(__file__).parent / f"peers/{name}.py").exists()]
    systems = [OURS, *peers]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    among = f"of {', '.join(TASKS)} (default: the first {len(RETRAINED)}, which are held against retraining)"
    parser.add_argument("--tasks", type=names(TASKS), default=list(RETRAINED), help=among)
    parser.add_argument("--systems", type=names(systems), default=systems, help=f"of {', '.join(systems)}")
    parser.add_argument("--variants", type=lambda text: text.split(";"), default=[], help="by name, between semicolons")
    parser.add_argument("--missing", action="store_true", help="only what results.json lacks")
    parser.add_argument("--large", action="store_true", help="the memory of 50,000 images × 100 queries too")
    parser.add_argument("--limit", type=float, default=240, help="seconds of one measurement (default 240)")
    parser.add_argument("--budget", type=float, default=20, help="minutes after which none is begun (default 20)")
    parser.add_argument("--threads", type=int, help="for each system (default 2; 1 for convex tasks)")
    parser.add_argument("--repeats", type=int, default=3, help="of what is timed on convex tasks (default 3)")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # by which the measurement ends too
    console = Console(width=report.WIDTH)
    bench = Bench(options.threads, options.limit, console)
    until, left = time.monotonic() + 60 * options.budget, []
    for kind, every in ((retraining, RETRAINED), (speed, CONVEX)):
        if tasks := [task for task in options.tasks if task in every]:
            left += kind.perform(bench, tasks, options, until)
    report.write(bench.found)
    report.show(bench.found, options.tasks, console)
    for name in left:
        console.print(f"left: {name}", highlight=False)
    if left:
        console.print(f"{len(left)} measurements are left: run again with --missing")
    worst = speed.disagreement(bench.found) if speed.COMPARED in options.tasks else None
    if worst is not None and not worst <= speed.AGREEMENT:
        raise SystemExit(f"answers differ by {worst:.1e} of a query's largest value; {speed.AGREEMENT:.0e} is allowed")


if __name__ == "__main__":
    main()
