"""The measurements so far, as results.json."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parent / "results.json"
PARTS = ("rows", "images")
"""What the examples are: rows of a table, or images."""
