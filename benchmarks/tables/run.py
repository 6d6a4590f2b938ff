"""Planted errors found in real tables, upweight beside cleanlab; each in a process of its own, one thread.

    python -m benchmarks.tables.run                 # all; goes on where it was stopped
    python -m benchmarks.tables.run adult           # a table anew

Each result is written to results.json at once; at the end RESULTS.md is made from all that is there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fidelity.plan import OURS
from benchmarks.processes import found_by, machine
from benchmarks.tables import report
from benchmarks.tables.problems import CLASSES, QUANTITIES, write
from benchmarks.throughput import record

SEEDS = 5
LIMIT = 1800.0
"""Seconds of one measurement."""


def measured(name: str, seed: int) -> dict[str, Any]:
    """A problem, and what either system finds in it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem.npz"
        problem = write(name, seed, file)
        found = {
            system: found_by(system, f"benchmarks.tables.{module}", file, seed, threads=1, limit=LIMIT)
            for system, module in ((OURS, "ours"), ("cleanlab", "peer"))
        }
    facts = {"rows": len(problem.given), "columns": problem.design.shape[1], "wrong": int(problem.wrong.sum())}
    return {"facts": facts | {"l2": problem.l2}, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*CLASSES, *QUANTITIES]
    parser.add_argument("tables", nargs="*", choices=[*names, []], metavar="table", help=", ".join(names))
    anew = parser.parse_args().tables
    results = record.load(report.FILE)
    results["machine"] = machine(1)
    for name in anew or names:
        rows = results.setdefault("tables", {}).setdefault(name, {})
        if name in anew:
            rows.clear()
        for seed in range(SEEDS):
            if str(seed) not in rows:
                rows[str(seed)] = measured(name, seed)
                print(name, seed, rows[str(seed)])
                record.save(results, report.FILE)
    report.write()


if __name__ == "__main__":
    main()
