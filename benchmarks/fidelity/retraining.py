"""Scores held against retraining, on each task by every system, and what else is asked of ours on these tasks."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import upweight as uw
from benchmarks.fidelity.bench import Bench
from benchmarks.fidelity.plan import OURS, Measurement, measurements
from benchmarks.fidelity.stored import path
from upweight.evaluation.correlation import spearman

AGREEMENT_TASK = "mnist-mlp"
AGREEMENT_DAMPING = 0.01
PAIR = (
    Measurement(AGREEMENT_TASK, OURS, "ekfac-empirical", str(AGREEMENT_DAMPING)),
    Measurement(AGREEMENT_TASK, "kronfluence", "EK-FAC, empirical", str(AGREEMENT_DAMPING)),
)
"""The same matrix, with the same statistics and the same damping."""


def perform(bench: Bench, tasks: list[str], options: argparse.Namespace, until: float) -> list[str]:
    """All that can be begun until then; returns what is left."""
    variants = bench.variants(tasks[0], options.systems, options.variants)
    done = bench.found["rows"] if options.missing else {}
    queue = [one for one in measurements(tasks, variants) if one.name not in done.get(one.task, {})]
    for task in tasks:
        bench.task(task)
    with tempfile.TemporaryDirectory() as folder:
        ours = OURS in options.systems and not options.variants
        if ours and AGREEMENT_TASK in tasks:
            if not (options.missing and "iterations" in bench.found):
                bench.keep("iterations", bench.on(AGREEMENT_TASK, "iterations", limit=2 * bench.limit))
            if "kronfluence" in options.systems and not (options.missing and "agreement" in bench.found):
                bench.keep("agreement", agreement(bench, Path(folder)))
        if options.large:
            bench.keep("large", bench.on("cifar-cnn", "large", limit=4 * bench.limit))
        while queue and time.monotonic() < until:
            judge(bench, queue.pop(0), Path(folder, "scores.npz"))
    return [f"{one.task} · {one.name}" for one in queue]


def judge(bench: Bench, measurement: Measurement, file: Path) -> None:
    """Measure, judge and write."""
    found = bench.measure(measurement, file)
    if "failed" in found:
        bench.row(measurement, found)
    else:
        found |= judged(measurement.task, scores(file))
        bench.row(measurement, found, f"LDS {found['lds']:.3f} in ")


def agreement(bench: Bench, folder: Path) -> dict[str, Any]:
    """Mean over queries of the rank correlation with kronfluence's EK-FAC, and the times of both."""
    files = [folder / "ours.npz", folder / "peer.npz"]
    ours, peer = (bench.measure(one, file) for one, file in zip(PAIR, files, strict=True))
    found: dict[str, Any] = {"task": AGREEMENT_TASK, "damping": AGREEMENT_DAMPING, "ours": ours, "peer": peer}
    if "failed" not in ours and "failed" not in peer:
        found["correlation"] = float(spearman(*(scores(file) for file in files)).mean())
    return found


def scores(file: Path) -> np.ndarray:
    """``[queries, train]``."""
    with np.load(file) as arrays:
        return arrays["scores"]


def judged(task: str, given: np.ndarray) -> dict[str, Any]:
    """LDS with its interval over queries and subsets."""
    with np.load(path(task)) as arrays:
        metric = uw.evaluation.LDS(arrays["subsets"])
        metric.update(given, arrays["losses"][:, :, : len(given)])
    result = metric.compute()
    return {"lds": result.lds, "low": result.interval.low, "high": result.interval.high}
