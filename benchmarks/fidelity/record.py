"""The measurements so far, as results.json: every new one is written at once, over its forerunner only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "results.json"

Found = dict[str, Any]
"""``tasks`` by name (sizes, ceiling, floor, machine); ``rows`` by task and name; and the further measurements."""
Row = dict[str, Any]
"""A system's variant on a task: its names, stages (seconds), memory and settings; or ``failed`` with the reason."""


def load() -> Found:
    """What was measured so far."""
    return json.loads(FILE.read_text()) if FILE.exists() else {"tasks": {}, "rows": {}}


def save(found: Found) -> None:
    """Write in place of the file, which is whole at any time."""
    fresh = FILE.with_suffix(".part")
    fresh.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    fresh.replace(FILE)


def total(row: Row) -> float:
    """Seconds of all stages."""
    return row["stages"]["total"]
