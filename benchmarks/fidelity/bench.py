"""Measurements, each in its own process with its system's interpreter, and what they found, written at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.fidelity import problems, record
from benchmarks.fidelity.models import CONVEX
from benchmarks.fidelity.plan import OURS, Measurement
from benchmarks.fidelity.stored import path
from benchmarks.processes import found_by, machine


class Bench:
    """Runs measurements and keeps what they found; ``threads`` for each system, or as many as suit each task."""

    def __init__(self, threads: int | None, limit: float, console: Console):
        self._threads, self.limit, self.console = threads, limit, console
        self.found = record.load()

    def threads(self, task: str) -> int:
        """One for convex tasks: fair also on a machine that others use."""
        return self._threads or (1 if task in CONVEX else 2)

    def python(
        self, system: str, script: str, *arguments: object, threads: int = 1, limit: float | None = None
    ) -> dict[str, Any]:
        """The JSON in the last line that the script prints, or ``failed`` with the reason in a few words."""
        limit = limit or self.limit
        return found_by(system, f"benchmarks.fidelity.{script}", *arguments, threads=threads, limit=limit)

    def on(
        self, task: str, script: str, *arguments: object, system: str = OURS, limit: float | None = None
    ) -> dict[str, Any]:
        """The same on a task's problem."""
        problem = ("--problem", path(task), "--task", task)
        return self.python(system, script, *problem, *arguments, threads=self.threads(task), limit=limit)

    def measure(self, measurement: Measurement, file: Path, *arguments: object) -> dict[str, Any]:
        """One row, its scores or answers in the file."""
        found = self.on(
            measurement.task,
            module(measurement.system),
            *("--variant", measurement.variant, "--damping", measurement.damping),
            *("--answer", file, "--limit", self.limit, *arguments),
            system=measurement.system,
        )
        names = {"system": measurement.system, "variant": measurement.variant, "damping": measurement.damping}
        return {**names, "limit": self.limit, "threads": self.threads(measurement.task), **found}

    def row(self, measurement: Measurement, found: dict[str, Any], words: str = "") -> None:
        """Write a row."""
        self.found["rows"].setdefault(measurement.task, {})[measurement.name] = found
        record.save(self.found)
        said = found.get("failed") or f"{words}{found['stages']['total']:.2f} s"
        self.console.print(f"{measurement.task} · {measurement.name}: {said}", highlight=False)

    def keep(self, name: str, found: dict[str, Any], task: str | None = None) -> None:
        """Write a further measurement, of one task of several if it is named."""
        if task is None:
            self.found[name] = found
        else:
            self.found.setdefault(name, {})[task] = found
        record.save(self.found)
        title = name if task is None else f"{task} · {name}"
        self.console.print(f"{title}: {found.get('failed', 'done')}", highlight=False)

    def task(self, task: str) -> None:
        """What is known of the task, its floor and the machine; its problem is made where it is missing."""
        problems.made(task)
        facts = problems.described(task) | self.on(task, "floor")
        self.found["tasks"][task] = {**facts, "machine": machine(self.threads(task))}
        record.save(self.found)

    def variants(self, task: str, systems: Iterable[str], wanted: Sequence[str]) -> dict[str, list[str]]:
        """The variants of each system for such tasks, those wanted if any are named."""
        systems = list(systems)

        def listed(system: str) -> Any:
            return self.python(system, module(system), "--variants", "--task", task)

        with ThreadPoolExecutor(2) as pool:  # each imports all of its package
            answers = dict(zip(systems, pool.map(listed, systems), strict=True))
        for system in systems:
            if isinstance(answers[system], dict):
                reason = answers.pop(system)["failed"]
                self.console.print(f"{system} can't be used here: {reason}", highlight=False)
        return {system: [name for name in names if not wanted or name in wanted] for system, names in answers.items()}


def module(system: str) -> str:
    """Where the system's script is."""
    return "ours" if system == OURS else f"peers.{system}"
