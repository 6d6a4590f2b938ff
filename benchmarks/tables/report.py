"""results.json as RESULTS.md: ``python -m benchmarks.tables.report``."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.fidelity.environments import OF_TABLES
from benchmarks.fidelity.plan import OURS
from benchmarks.fidelity.tables import table
from benchmarks.tables.problems import CLASSES, MOST_ROWS, QUANTITIES
from benchmarks.throughput import record

FILE = Path(__file__).parent / "results.json"
CHECKED = ("5 %", "10 %", "20 %")
PAGE = """# Errors planted in real tables

Made by `python -m benchmarks.tables.run` from `results.json`; run it to renew this page. Share of the planted errors
among the first rows checked, mean over {seeds} seeds, and the standard deviation over these for 10 %. Every seed draws
the errors, 10 % of the rows{adult}; both systems get the same encoded columns, the same linear model and the same
penalty, chosen by cross-validation on the labels as given. cleanlab's probabilities come of the same five folds that
the penalty was chosen on; upweight trains once, and asks what the model would say without each row. Process seconds of
one thread belong to the machine: {machine}. Peer: {pins}, in an environment of its own.

## Flipped labels

{classes}

## Shifted numbers

Ridge regression; numbers shifted by one to three standard deviations of the target, up or down.
`CleanLearning` makes its own folds and bootstraps, by its defaults.

{quantities}
"""


def write(file: Path = FILE) -> None:
    """RESULTS.md beside the results."""
    (file.parent / "RESULTS.md").write_text(markdown(record.load(file)), encoding="utf-8")


def markdown(found: dict[str, Any]) -> str:
    """The page."""
    machine, tables = found["machine"], found["tables"]
    words = f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, torch {machine['torch']}"
    return PAGE.format(
        seeds=max(len(rows) for rows in tables.values()),
        adult=f" (of Adult also {MOST_ROWS:,} rows of the 32,561)",
        machine=words,
        pins=OF_TABLES["cleanlab"].pins[0],
        classes=_section(tables, CLASSES),
        quantities=_section(tables, QUANTITIES),
    )


def _section(tables: dict[str, Any], names: tuple[str, ...]) -> str:
    lines = []
    for name in names:
        rows = list(tables.get(name, {}).values())
        for system in (OURS, "cleanlab") if rows else ():
            lines += _lines(name, system, rows)
    return table(["table", "rows", "system", "ranking", *CHECKED, "± at 10 %", "seconds"], lines)


def _lines(name: str, system: str, rows: list[dict[str, Any]]) -> list[list[str]]:
    failed = next((row[system]["failed"] for row in rows if "failed" in row[system]), "")
    size = f"{rows[0]['facts']['rows']:,} × {rows[0]['facts']['columns']}"
    if failed:
        return [[name, size, system, failed, *["–"] * 5]]
    seconds = f"{mean(row[system]['seconds'] for row in rows):.1f}"
    lines = []
    for ranking in rows[0][system]["recovered"]:
        shares = [[row[system]["recovered"][ranking][place] for row in rows] for place in range(len(CHECKED))]
        spread = f"{stdev(shares[1]):.3f}" if len(rows) > 1 else "–"
        lines.append([name, size, system, ranking, *(f"{mean(each):.3f}" for each in shares), spread, seconds])
    return lines


if __name__ == "__main__":
    write()
