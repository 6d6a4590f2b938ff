"""What the commands on a CSV or a study begin with, and what they all say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from upweight.attribution import Magnitude, Quantity
    from upweight.cli.outputs import Outputs
    from upweight.cli.session import Session
    from upweight.cli.source import Source

T = TypeVar("T")


def opening(run: Session, outputs: Outputs, path: Path, read: Callable[[], T]) -> T:
    """What ``read`` gives: a model trained, and none of its files in the way of the results.

    Raises
    ------
    InputError
        If a result would be written over a file that was read meanwhile.
    """
    run.stage(f"reading {path.name} and training")
    found = read()
    outputs.refuse_what_was_read()
    return found


def show(run: Session, opened: Source, *parts: Any) -> None:
    """Print notes on the source, then results."""
    for note in opened.notes:
        run.note(note)
    run.show(*parts)


def said(source: Path, opened: Source, quantity: Quantity, magnitude: Magnitude | None = None) -> dict[str, Any]:
    """What was read and what a score is, for machines."""
    from upweight.cli.layout import magnitude_json, meaning_json

    return {
        "source": source,
        "notes": opened.notes,
        "columns": opened.columns,
        "quantity": meaning_json(quantity),
        "magnitude": magnitude_json(magnitude),
    }
