"""The measurements so far, as results.json; and what follows from them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "results.json"
GPU = "gpu.json"
"""Beside it: what `benchmarks.throughput.gpu` wrote."""

Case = dict[str, Any]
"""A problem in a precision: ``facts``, ``machine``, ``rows`` by system, ``agreement`` between two systems, and of each
with its own float32 (``beside_float32``)."""
Found = dict[str, dict[str, Case]]
"""Cases by problem and precision."""
Row = dict[str, Any]
"""A system's seconds and bytes; or ``failed`` with the reason."""


def load(file: Path = FILE) -> dict[str, Any]:
    """What was measured so far."""
    return json.loads(file.read_text()) if file.exists() else {}


def save(found: Any, file: Path = FILE) -> None:
    """Write in place of the file, which is whole at any time."""
    fresh = file.with_suffix(".part")
    fresh.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    fresh.replace(file)


def middle(runs: Sequence[Row]) -> Row:
    """Medians over runs, or the first failure."""
    failures = [run for run in runs if "failed" in run]
    return failures[0] if failures else {**_medians(runs), "repeats": len(runs)}


def _medians(runs: Sequence[Row]) -> Row:
    def one(values: list[Any]) -> Any:
        return _medians(values) if isinstance(values[0], dict) else statistics.median(values)

    return {name: one([run[name] for run in runs]) for name in runs[0]}


def derived(row: Row, facts: dict[str, Any]) -> Row:
    """The row with its totals, its ratios to the floor, what a second is worth, and its memory beyond what was held."""
    if "failed" in row:
        return row
    total = sum(row["stages"].values())
    without = total - row["stages"].get("eigenvectors", 0.0)
    speed = facts["floor_flops"] / row["floor"]
    return row | {
        "total": total,
        "without_eigenvectors": without,
        "times_floor": total / row["floor"],
        "times_floor_without_eigenvectors": without / row["floor"],
        "tokens_per_second": facts["train"] * facts["tokens"] / total,
        "beyond": row["peak"] - row["held"],
        "floor_speed": speed,
        "floor_share_of_product": speed / facts["product_speed"],
    }
