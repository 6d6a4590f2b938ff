"""Speed on convex tasks, where every system finds the same answer: ours and the peers' in turn; and of ours alone."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fidelity.bench import Bench
from benchmarks.fidelity.plan import OURS, SPEED_SYSTEMS, Measurement
from benchmarks.fidelity.record import Found, Row, total

COMPARED = "1-vs-7"
"""The task that peers solve too."""
TOLERANCE = 1e-5
AGREEMENT = 1e-4
FEW = 5
"""Queries from which the time of a peer's variant that takes them one by one is extrapolated, in its trial."""
GROWTH = (4000, 8000)
"""Training examples of which the memory is compared."""


def perform(bench: Bench, tasks: list[str], options: argparse.Namespace, until: float) -> list[str]:
    """All that can be begun until then; returns what is left."""
    steps = planned(bench, tasks, options)
    if steps:
        for task in tasks:
            bench.task(task)
    while steps and time.monotonic() < until:
        steps.pop(next(iter(steps)))()
    return list(steps)


def planned(bench: Bench, tasks: list[str], options: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """What is measured, by name; with ``--missing`` what has no result."""
    steps: dict[str, Callable[[], None]] = {}
    done = bench.found if options.missing else {}
    if COMPARED in tasks:
        systems = [system for system in options.systems if system in SPEED_SYSTEMS]
        variants = bench.variants(COMPARED, systems, options.variants)
        names = {one.name for one in measurements(variants)}
        if names - set(done.get("rows", {}).get(COMPARED, {})):
            steps[f"{COMPARED} · comparison"] = partial(comparison, bench, variants, options.repeats)
    if OURS in options.systems and not options.variants:
        for task in tasks:
            for name, script, longer in (("cg", "queries", 4), ("perturbation", "perturbation", 1)):
                if task not in done.get(name, {}):
                    steps[f"{task} · {name}"] = partial(alone, bench, task, name, script, longer * bench.limit)
        if "growth" not in done:
            steps["growth"] = partial(growth, bench)
    return steps


def alone(bench: Bench, task: str, name: str, script: str, limit: float) -> None:
    """A measurement of ours on a task."""
    bench.keep(name, bench.on(task, script, "--tolerance", TOLERANCE, limit=limit), task)


def growth(bench: Bench) -> None:
    """Memory at some examples and at twice as many."""
    runs = [bench.python(OURS, "growth", "--rows", rows) for rows in GROWTH]
    failed = [run for run in runs if "failed" in run]
    bench.keep("growth", failed[0] if failed else {"runs": runs})


def measurements(variants: Mapping[str, Sequence[str]]) -> list[Measurement]:
    """Each variant of each system."""
    return [Measurement(COMPARED, system, name) for system, names in variants.items() for name in names]


def comparison(bench: Bench, variants: Mapping[str, Sequence[str]], repeats: int) -> None:
    """Every setting of the peers once; then ours and each peer's fastest in turn, to the same tolerance."""
    every = measurements(variants)
    with tempfile.TemporaryDirectory() as folder:
        files = {one: Path(folder, f"{number}.npz") for number, one in enumerate(every)}
        trials = {}
        for one in every:
            if one.system != OURS:
                trials[one] = trial(bench, one, files[one])
                bench.row(one, trials[one])
        ours = [one for one in every if one.system == OURS]
        best = fastest(trials)
        rows = repeated(bench, [*ours, *best], repeats, files)
        for one in best:
            bench.row(one, rows[one] | {"trial": trials[one]["trial"]})
        for one in ours:
            solved = [] if "failed" in rows[one] else [peer for peer in best if "failed" not in rows[peer]]
            differences = {peer.system: difference(files[one], files[peer]) for peer in solved}
            bench.row(one, rows[one] | {"differences": differences})


def trial(bench: Bench, one: Measurement, file: Path) -> Row:
    """A peer's setting once; its seconds as ``trial`` too, by which the fastest is chosen."""
    row = bench.measure(one, file, "--tolerance", TOLERANCE, "--few", FEW)
    return row if "failed" in row else row | {"trial": total(row)}


def fastest(trials: Mapping[Measurement, Row]) -> list[Measurement]:
    """The fastest setting of each peer that has one."""
    solved = [one for one, row in trials.items() if "failed" not in row]
    systems = dict.fromkeys(one.system for one in solved)
    return [
        min((one for one in solved if one.system == system), key=lambda one: total(trials[one])) for system in systems
    ]


def repeated(
    bench: Bench, every: Iterable[Measurement], repeats: int, files: Mapping[Measurement, Path]
) -> dict[Measurement, Row]:
    """Medians of runs in turn, so that a change of the machine meets all alike."""
    runs: dict[Measurement, list[Row]] = {one: [] for one in every}
    for _ in range(repeats):
        for one, so_far in runs.items():
            so_far.append(bench.measure(one, files[one], "--tolerance", TOLERANCE))
    return {one: middle(found) for one, found in runs.items()}


def middle(runs: Sequence[Row]) -> Row:
    """Medians of the stages and the memory over runs; the first that failed, if one did."""
    failed = [run for run in runs if "failed" in run]
    if failed:
        return failed[0]
    stages = {stage: statistics.median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]}
    memory = statistics.median(run["memory"] for run in runs)
    return {**runs[-1], "stages": stages, "memory": memory, "repeats": len(runs)}


def difference(ours: Path, peers: Path) -> dict[str, float]:
    """Largest |ours − peer's| of each query, relative to its largest entry; the worst query."""
    with np.load(ours) as a, np.load(peers) as b:
        return {
            name: float((np.abs(a[name] - b[name]).max(1) / np.abs(b[name]).max(1)).max())
            for name in ("factors", "values")
        }


def disagreement(found: Found) -> float | None:
    """The largest difference of our answers from a peer's, if any were compared."""
    rows: Iterable[dict[str, Any]] = found["rows"].get(COMPARED, {}).values()
    parts = [part for row in rows for each in row.get("differences", {}).values() for part in each.values()]
    return max(parts, default=None)
