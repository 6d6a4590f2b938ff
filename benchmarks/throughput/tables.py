"""The tables and sentences of a case; no drawing, so that they serve where there is no matplotlib."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from benchmarks.fidelity.tables import grid
from benchmarks.throughput.problems import PROBLEMS
from benchmarks.throughput.record import Case, Found, Row

WIDTH = 120
"""Columns of the terminal."""
STAGES = ("set-up", "covariances", "eigenvectors", "second moments", "scores")
COUNTED = tuple(stage for stage in STAGES if stage != "eigenvectors")
OPERATIONS = ["operations", "× floor", *COUNTED, "of a product's speed"]
HEAD = ["system", "× floor", "without eigenvectors", *STAGES, "seconds", "tokens/s", "MiB"]


def show(found: Found, console: Console) -> None:
    """The tables on a terminal."""
    head = [word.replace("eigenvectors", "eig.").replace("without", "w/o") for word in HEAD]
    for name, precision, case in cases(found):
        grid(f"{name}, {precision}: stages in multiples of the floor", head, lines(case), console)
        for line in failures(case):
            console.print(f"  {line}", highlight=False)
        console.print(note(case), highlight=False)


def cases(found: Found) -> list[tuple[str, str, Case]]:
    """Problem, precision and what was found, in the order of the problems."""
    return [
        (name, precision, found[name][precision]) for name in PROBLEMS if name in found for precision in found[name]
    ]


def failures(case: Case) -> list[str]:
    """Those that were not measured, and why."""
    return [f"{system}: {row['failed']}" for system, row in case["rows"].items() if "failed" in row]


def lines(case: Case) -> list[list[str]]:
    """A line for each system."""
    return [cells(system, row) for system, row in case["rows"].items() if "failed" not in row]


def cells(system: str, row: Row) -> list[str]:
    """A system's figures."""
    stages = [row["stages"].get(stage, 0.0) / row["floor"] for stage in STAGES]
    return [
        system,
        *(f"{value:.1f}" for value in (row["times_floor"], row["times_floor_without_eigenvectors"], *stages)),
        f"{row['total']:.1f}",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['beyond'] / 2**20:,.0f}",
    ]


def operations(case: Case) -> list[list[str]]:
    """A line for each system whose operations were counted: multiples of the floor's, and how fast they were done."""
    floor, speed = case["facts"]["floor_flops"], case["facts"]["product_speed"]
    found = []
    for system, row in case["rows"].items():
        if counted := row.get("operations"):
            total = sum(counted.values())
            each = [total, *(counted.get(stage, 0) for stage in COUNTED)]
            share = total / row["without_eigenvectors"] / speed
            found.append([system, *(f"{value / floor:.2f}" for value in each), f"{share:.0%}"])
    return found


def note(case: Case) -> str:
    """Sizes, floor, agreement and machine."""
    facts, rows = case["facts"], [row for row in case["rows"].values() if "failed" not in row]
    tokens = f" of {facts['tokens']} tokens" if facts["tokens"] > 1 else ""
    parts = [
        f"{facts['train']:,} training examples{tokens} × {facts['queries']} queries; {facts['attributed']:,} of "
        f"{facts['parameters']:,} parameters."
    ]
    if rows:
        floor = min(row["floor"] for row in rows)
        parts.append(
            f"Floor: {facts['floor_flops'] / 1e9:,.0f} GFLOP in {floor:.3g} s, "
            f"{facts['floor_flops'] / floor / facts['product_speed']:.0%} of the "
            f"{facts['product_speed'] / 1e9:,.0f} GFLOP/s of a large matrix product."
        )
    if agreed := case.get("agreement"):
        parts.append(
            f"Scores of both: Pearson {agreed['pearson']:.4f}, Spearman {agreed['spearman']:.4f}, "
            f"relative distance {agreed['distance']:.1e}."
        )
    if beside := case.get("beside_float32"):
        apart = ", ".join(f"{system} {one['distance']:.1e}" for system, one in beside.items())
        parts.append(f"Relative distance from the same system's float32: {apart}.")
    runs = max((row["repeats"] for row in case["rows"].values() if "failed" not in row), default=0)
    parts.append("One run." if runs == 1 else f"Medians of {runs} runs." if runs else "")
    return " ".join([*filter(None, parts), f"Machine: {machine(case['machine'])}."])


def machine(one: dict[str, Any]) -> str:
    """The machine and the versions in words."""
    device = f"{one['device']}, " if "device" in one else ""
    threads = f"{one['cores']} cores, {one['threads']} thread{'s' * (one['threads'] > 1)} for each"
    return f"{device}{one['processor']}, {threads}; Python {one['python']}, torch {one['torch']}, {one['peer']}"
