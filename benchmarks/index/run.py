"""The gradient index measured; each measurement in a process of its own, one thread.

    python -m benchmarks.index.run                     # all; goes on where it was stopped
    python -m benchmarks.index.run agreement scan      # some sections anew

Each result is written to results.json at once; at the end RESULTS.md and its figure are made from all that is there.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.fidelity import stored
from benchmarks.fidelity.environments import PEERS
from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.problems import made
from benchmarks.index import report
from benchmarks.index.agreement import CASES, TASK
from benchmarks.processes import found_by, machine
from benchmarks.throughput import record

SECTIONS = ("agreement", "projecting", "scan")
DTYPES = ("int8", "bfloat16", "float32")
LIMIT = 1800.0
"""Seconds of one measurement."""


def named(number: int) -> str:
    """A case in words."""
    case = CASES[number]
    curvature = "empirical Fisher" if case.fisher else "GGN"
    return f"exact, {curvature}" if case.projection is None else f"{case.projection}, {case.dtype}, {curvature}"


def ours(module: str, *arguments: object) -> dict[str, Any]:
    """One measurement of ours."""
    return found_by(OURS, f"benchmarks.index.{module}", *arguments, threads=1, limit=LIMIT)


def agreement(found: dict[str, Any]) -> None:
    """LDS of every case that is missing."""
    for number in range(len(CASES)):
        name = named(number)
        if name not in found:
            found[name] = ours("agreement", number)
            print(name, found[name])
            yield_to_disk()


def projecting(found: dict[str, Any]) -> None:
    """Projection, the systems in turn."""
    if not found:
        found[OURS] = ours("projecting")
        for peer in ("trak", "dattri"):
            arguments = peer, stored.path(TASK)
            measured = found_by(peer, "benchmarks.index.peers", *arguments, threads=1, limit=LIMIT)
            found[f"{peer} ({PEERS[peer].pins[-1]})"] = measured
        print(found)
        yield_to_disk()


def scan(found: dict[str, Any]) -> None:
    """A million rows in every precision."""
    for dtype in DTYPES:
        if dtype not in found:
            found[dtype] = ours("scan", dtype)
            print(dtype, found[dtype])
            yield_to_disk()


RESULTS: dict[str, Any] = {}


def yield_to_disk() -> None:
    """Write what there is."""
    record.save(RESULTS, report.FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], metavar="section", help=", ".join(SECTIONS))
    anew = parser.parse_args().sections
    made(TASK)
    RESULTS.update(record.load(report.FILE))
    RESULTS["machine"] = machine(1)
    for name, measure in zip(SECTIONS, (agreement, projecting, scan), strict=True):
        if name in anew:
            RESULTS[name] = {}
        if name in anew or not anew:
            measure(RESULTS.setdefault(name, {}))
    yield_to_disk()
    report.write()


if __name__ == "__main__":
    main()
