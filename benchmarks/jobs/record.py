"""The measurements so far, as results.json."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parent / "results.json"
PARTS = ("large", "workers", "open", "kills")
"""Scripts of this folder, each of which prints its figures as one line of JSON."""
