"""results.json as RESULTS.md with figures, and on the terminal: ``python -m benchmarks.fidelity.report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.fidelity import environments, figures, record, retraining_section, speed_section
from benchmarks.fidelity.models import CONVEX, RETRAINED
from benchmarks.fidelity.record import Found

PAGE = Path(__file__).parent / "RESULTS.md"
WIDTH = 100
"""Columns of the terminal."""


def show(found: Found, tasks: Sequence[str], console: Console) -> None:
    """The tables of the tasks, and their targets, on a terminal."""
    if retrained := [task for task in tasks if task in RETRAINED]:
        retraining_section.show(found, retrained, console)
    if any(task in CONVEX for task in tasks):
        speed_section.show(found, console)


def write(found: Found) -> None:
    """RESULTS.md and a figure per task."""
    drawn = figures.write(found)
    PAGE.write_text(markdown(found, drawn))


def markdown(found: Found, drawn: Sequence[str]) -> str:
    """The page; ``drawn`` are the tasks that have figures."""
    left_out = "\n".join(f"- {name}: {reason}" for name, reason in environments.NOT_RUN.items())
    pins = ", ".join(pin for each in environments.PEERS.values() for pin in each.pins if "torch==" not in pin)
    return f"""# Beside peers: agreement with retraining, and speed

Made by `python -m benchmarks.fidelity.run` from `results.json`; run it to renew this page. Every measurement has a
process and an environment of its own, one after the other. Peers: {pins}.

{retraining_section.section(found, drawn)}
{speed_section.section(found)}
## Peers that were not run

{left_out}
"""


if __name__ == "__main__":
    everything = record.load()
    write(everything)
    show(everything, list(everything["tasks"]), Console(width=WIDTH))
