"""`from_lightning`: what Lightning has trained as an `Objective`."""

from typing import Any


def from_lightning(module: Any) -> Any:
    """Later."""
