"""Long jobs at their full size: ``python -m benchmarks.jobs.run [large workers open kills]``.

Each part runs in a process of its own, and is written to results.json at once; at the end RESULTS.md is made of all
that is there. Ratios are of one machine that should do nothing else meanwhile: its load before each part is kept.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from benchmarks.fidelity.plan import OURS
from benchmarks.jobs import record, report
from benchmarks.processes import found_by, machine
from benchmarks.throughput.record import load, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(record.PARTS)}; all if none is named")
    parser.add_argument("--examples", type=int, help="of large and open (default 1,000,000), for a trial")
    parser.add_argument("--folder", type=Path, help="where stores are made (default: the system's temporary one)")
    parser.add_argument("--limit", type=float, default=7200, help="seconds of one part (default 7200)")
    parser.add_argument("--results", type=Path, default=record.FILE, help="the page stands beside it")
    given = parser.parse_args()
    unknown = set(given.parts) - set(record.PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if given.examples and given.results == record.FILE:
        parser.error("measurements of a smaller size don't belong into results.json: give --results FILE")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # by which the measurement ends too
    found = load(given.results)
    for part in given.parts or record.PARTS:
        words: list[object] = ["--folder", given.folder] if given.folder else []
        words += ["--examples", given.examples] if given.examples and part in ("large", "open") else []
        busy = os.getloadavg()[0]
        one = found_by(OURS, f"benchmarks.jobs.{part}", *words, threads=1, limit=given.limit)
        if "failed" in one:
            print(f"{part}: {one['failed']}", file=sys.stderr)
            continue
        found[part] = {"found": one, "machine": machine(1), "load": busy}
        save(found, given.results)
    report.write(given.results)


if __name__ == "__main__":
    main()
