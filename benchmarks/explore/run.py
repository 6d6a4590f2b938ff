"""The page at its full size: ``python -m benchmarks.explore.run [rows images]``.

Each part runs in a process of its own, and is written to results.json at once; at the end RESULTS.md is made of all
that is there. The machine should do nothing else meanwhile: its load before each part is kept.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.explore import record, report
from benchmarks.fidelity.plan import OURS
from benchmarks.processes import found_by, machine
from benchmarks.throughput.record import load, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(record.PARTS)}; all if none is named")
    parser.add_argument("--examples", type=int, help="default 50,000; another number for a trial")
    parser.add_argument("--limit", type=float, default=1800, help="seconds of one part (default 1800)")
    parser.add_argument("--results", type=Path, default=record.FILE, help="the page stands beside it")
    given = parser.parse_args()
    unknown = set(given.parts) - set(record.PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if given.examples and given.results == record.FILE:
        parser.error("measurements of another size don't belong into results.json: give --results FILE")
    found = load(given.results)
    for kind in given.parts or record.PARTS:
        words: list[object] = ["--kind", kind, *(["--examples", given.examples] if given.examples else [])]
        busy = os.getloadavg()[0]
        one = found_by(OURS, "benchmarks.explore.page", *words, threads=1, limit=given.limit)
        if "failed" in one:
            print(f"{kind}: {one['failed']}", file=sys.stderr)
            continue
        found[kind] = {"found": one, "machine": machine(1), "load": busy}
        save(found, given.results)
    report.write(given.results)


if __name__ == "__main__":
    main()
