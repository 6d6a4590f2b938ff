"""results.json as RESULTS.md: ``python -m benchmarks.explore.report``."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.explore import record
from benchmarks.fidelity.tables import table
from benchmarks.throughput.record import load

MIB = 2**20
NAMES = {"rows": "rows of a table, ten columns of their own", "images": "images of 28 × 28"}


def write(results: Path = record.FILE) -> None:
    """The page beside the results."""
    (results.parent / "RESULTS.md").write_text(markdown(load(results)), encoding="utf-8")


def markdown(found: dict[str, Any]) -> str:
    """The page."""
    sections = "\n".join(_section(kind, found[kind]) for kind in record.PARTS if kind in found)
    return f"""# The page of `upweight explore` at its full size

Made by `python -m benchmarks.explore.run` from `results.json`; run it to renew this page. A store of drawn scores is
served by the command and driven in Chromium without a window, both on one machine. An action is timed from the key or
click to the row, the figure or the word that it brings; the search waits 0.12 s for the next letter first. The load is
the machine's before the part began: others' work, if it is above 0.

{sections}"""


def _section(kind: str, part: dict[str, Any]) -> str:
    one = part["found"]
    rows = [
        ["first paint, a browser that has nothing", f"{one['first']:.2f}", f"{one['first']:.2f}"],
        ["first paint, again", _median(one["again"]), f"{max(one['again']):.2f}"],
        *([name, _median(times), f"{max(times):.2f}"] for name, times in one["actions"].items()),
    ]
    server = [
        [name, f"{1000 * statistics.median(each):.0f}", f"{1000 * max(each):.0f}"]
        for name, each in one["processor"].items()
    ]
    held, machine = one["memory"], part["machine"]
    return f"""## {one["examples"]:,} {NAMES[kind]}

{table(["action", "seconds, median", "at most"], rows)}

{table(["the server's own work", "milliseconds of the processor, median", "at most"], server)}

{one["queries"]:,} queries; {one["disk"] / MIB:,.0f} MiB on disk, scores above all. The command listens after
{one["to_listen"]:.1f} s. The server held {held["peak"] / MIB:,.0f} MiB at most,
{(held["peak"] - held["imports"]) / MIB:,.0f} MiB beyond a process that has imported the same and opened nothing.
Machine: {machine["processor"]}, {machine["cores"]} cores; Python {machine["python"]}; load {part["load"]:.1f}.
"""


def _median(times: list[float]) -> str:
    return f"{statistics.median(times):.2f}"


if __name__ == "__main__":
    write()
