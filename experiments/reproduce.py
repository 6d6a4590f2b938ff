"""Run every experiment, each in a process of its own, and gather RESULTS.md.

``python -m experiments.reproduce gif`` runs those of one folder alone, ``koh_liang.fig1_components`` one. What QUICK=1,
the default and FULL=1 leave out stands in `experiments.listed`. What can't be run is named at the end, with the rows
that go without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable

from experiments.listed import EXPERIMENTS, LEFT_OUT, Experiment, chosen, folders_of
from experiments.lock import departures
from experiments.results import gather
from experiments.running import NO_DATA, SAID
from upweight import datasets


def main() -> int:
    quick = bool(os.environ.get("QUICK"))
    size = "QUICK=1" if quick else "FULL=1" if os.environ.get("FULL") else "default"
    print(f"{size} leaves out {LEFT_OUT[size]}.", flush=True)
    if other := departures():
        print(f"Other versions than those of RESULTS.md (LOCKED=1 has them): {', '.join(other)}.", flush=True)
    wanted = chosen(sys.argv[1:])
    missing = unavailable(dict.fromkeys(name for each in wanted for name in each.data))
    failed: dict[Experiment, str] = {}
    for each in wanted:
        if without := [name for name in each.data if name in missing]:
            failed[each] = f"{SAID[NO_DATA]}: {', '.join(without)}"
            continue
        print(f"== {each.module}", flush=True)
        # A process each, so that peak memory is that experiment's own.
        code = subprocess.run([sys.executable, "-m", each.module], check=False).returncode
        if code:
            failed[each] = SAID.get(code, f"it ended with exit code {code}, as said above")
    not_made = {row: why for each, why in failed.items() for row in each.rows}
    print(f"wrote {gather(folders_of(EXPERIMENTS), quick, not_made)}")
    for name, why in missing.items():
        print(f"{name} can't be had: {why}", file=sys.stderr)
    for each, why in failed.items():
        rows = ", ".join(each.rows) or "a page"
        print(f"not run: {each.name} ({rows}): {why}", file=sys.stderr)
    if failed:
        print("Their rows are those of earlier runs, or missing; RESULTS.md says which.", file=sys.stderr)
    return min(len(failed), 100)


def unavailable(names: Iterable[str]) -> dict[str, str]:
    """Which data sets can't be had, and why; the others are in the cache from here on."""
    found = {}
    for name in names:
        try:
            datasets.fetch(name)
        except datasets.DataUnavailable as error:
            found[name] = str(error)
    return found


if __name__ == "__main__":
    sys.exit(main())
