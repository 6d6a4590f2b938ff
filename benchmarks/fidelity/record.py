"""The measurements so far, as results.json: every new one is written at once, over its forerunner only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "results.json"

Found = dict[str, Any]
"""``machine``; ``tasks`` by name (sizes, ceiling, floor); ``rows`` by task and name; and the further measurements."""


def load() -> Found:
    """What was measured so far."""
    return json.loads(FILE.read_text()) if FILE.exists() else {"machine": {}, "tasks": {}, "rows": {}}


def save(found: Found) -> None:
    """Write in place of the file, which is whole at any time."""
    fresh = FILE.with_suffix(".part")
    fresh.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    fresh.replace(FILE)
