"""Fidelity beside peers: each measurement in its own process and environment, one system after the other.

    python -m benchmarks.fidelity.run                                   # what fits into the budget
    python -m benchmarks.fidelity.run --missing                         # and then what is left
    python -m benchmarks.fidelity.run --tasks digits --systems upweight,pydvl --variants "auto;EK-FAC"
    python -m benchmarks.fidelity.run --missing --large --budget 60

Each result is written to results.json at once; a further run renews only what it measures. At the end RESULTS.md and
its figures are made from all that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import upweight as uw
from benchmarks.fidelity import environments, ground_truth, record, report
from benchmarks.fidelity.plan import OURS, TASKS, Measurement, measurements
from benchmarks.run import ROOT, Runner, processor
from upweight.evaluation.correlation import spearman

STARTING = 30
"""Seconds that a process may take to import and read, beyond its limit."""
AGREEMENT_TASK = "mnist-mlp"
AGREEMENT_DAMPING = 0.01
PAIR = (
    Measurement(AGREEMENT_TASK, OURS, "ekfac-empirical", str(AGREEMENT_DAMPING)),
    Measurement(AGREEMENT_TASK, "kronfluence", "EK-FAC, empirical", str(AGREEMENT_DAMPING)),
)
"""The same matrix, with the same statistics and the same damping."""


class Bench:
    """Runs measurements and keeps what they found."""

    def __init__(self, threads: int, limit: float, console: Console):
        self.environment, self.limit, self.console = Runner(threads).environment, limit, console
        self.found = record.load()
        self.found["machine"] = {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": threads,
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
        }

    def python(self, system: str, script: str, *arguments: object, limit: float | None = None) -> dict[str, Any]:
        """The JSON in the last line that the script prints, or ``failed`` with the reason in a few words."""
        limit = limit or self.limit
        try:
            interpreter = sys.executable if system == OURS else str(environments.python(system))
        except environments.Unavailable as reason:
            return {"failed": str(reason)}
        command = [interpreter, "-m", f"benchmarks.fidelity.{script}", *map(str, arguments)]
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            try:
                out, _ = process.communicate(timeout=limit + STARTING)
            except subprocess.TimeoutExpired:
                return {"failed": f"not finished in {limit:.0f} s"}
            finally:
                stop(process)
            errors.seek(0)
            return answer(out, errors.read(), process.returncode)

    def measure(self, measurement: Measurement, file: Path) -> dict[str, Any]:
        """One row, its scores in the file."""
        found = self.python(
            measurement.system,
            module(measurement.system),
            *("--problem", ground_truth.path(measurement.task), "--task", measurement.task),
            *("--variant", measurement.variant, "--damping", measurement.damping),
            *("--answer", file, "--limit", self.limit),
        )
        names = {"system": measurement.system, "variant": measurement.variant, "damping": measurement.damping}
        return {**names, "limit": self.limit, "threads": self.found["machine"]["threads"], **found}

    def row(self, measurement: Measurement, file: Path) -> None:
        """Measure, judge and write."""
        found = self.measure(measurement, file)
        if "failed" not in found:
            found |= judged(measurement.task, scores(file))
        self.found["rows"].setdefault(measurement.task, {})[measurement.name] = found
        record.save(self.found)
        words = found.get("failed") or f"LDS {found['lds']:.3f} in {found['stages']['total']:.2f} s"
        self.console.print(f"{measurement.task} · {measurement.name}: {words}", highlight=False)

    def task(self, task: str) -> None:
        """What is known of the task, and its floor."""
        problem = ("--problem", ground_truth.path(task), "--task", task)
        self.found["tasks"][task] = described(task) | self.python(OURS, "floor", *problem)
        record.save(self.found)

    def agreement(self, folder: Path) -> None:
        """Mean over queries of the rank correlation with kronfluence's EK-FAC, and the times of both."""
        files = [folder / "ours.npz", folder / "peer.npz"]
        ours, peer = (self.measure(one, file) for one, file in zip(PAIR, files, strict=True))
        found: dict[str, Any] = {"task": AGREEMENT_TASK, "damping": AGREEMENT_DAMPING, "ours": ours, "peer": peer}
        if "failed" not in ours and "failed" not in peer:
            found["correlation"] = float(spearman(*(scores(file) for file in files)).mean())
        self.keep("agreement", found)

    def iterations(self) -> None:
        """Iterations of CG, plain and preconditioned."""
        problem = ("--problem", ground_truth.path(AGREEMENT_TASK), "--task", AGREEMENT_TASK)
        self.keep("iterations", self.python(OURS, "iterations", *problem, limit=2 * self.limit))

    def large(self) -> None:
        """Memory of the large attribution."""
        problem = ("--problem", ground_truth.path("cifar-cnn"))
        self.keep("large", self.python(OURS, "large", *problem, limit=4 * self.limit))

    def keep(self, name: str, found: dict[str, Any]) -> None:
        """Write a further measurement."""
        self.found[name] = found
        record.save(self.found)
        self.console.print(f"{name}: {found.get('failed', 'done')}", highlight=False)


def stop(process: subprocess.Popen) -> None:
    """End the process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answer(out: str, errors: str, code: int) -> dict[str, Any]:
    """What a finished process found."""
    lines = out.strip().splitlines()
    if code == 0 and lines:
        return json.loads(lines[-1])
    words = (errors.strip().splitlines() or [""])[-1]
    return {"failed": f"killed by signal {-code}" if code < 0 else words[:240] or f"exit status {code}"}


def scores(file: Path) -> np.ndarray:
    """``[queries, train]``."""
    with np.load(file) as arrays:
        return arrays["scores"]


def judged(task: str, given: np.ndarray) -> dict[str, Any]:
    """LDS with its interval over queries and subsets."""
    with np.load(ground_truth.path(task)) as arrays:
        metric = uw.evaluation.LDS(arrays["subsets"])
        metric.update(given, arrays["losses"][:, :, : len(given)])
    result = metric.compute()
    return {"lds": result.lds, "low": result.interval.low, "high": result.interval.high}


def described(task: str) -> dict[str, Any]:
    """Sizes, and what a perfect predictor would reach (None where there is one seed)."""
    with np.load(ground_truth.path(task)) as arrays:
        count, seeds, queries = arrays["losses"].shape
        p = sum(arrays[name].size for name in arrays if name.startswith("param_"))
        agreement, ceiling = uw.evaluation.lds.noise_ceiling(arrays["losses"].transpose(2, 1, 0))
        sizes = {"n": len(arrays["x_train"]), "p": p, "queries": queries, "l2": float(arrays["l2"])}
    known = {"seed agreement": agreement, "ceiling": ceiling} if seeds > 1 else {}
    return {**sizes, "subsets": count, "seeds": seeds, **known}


def variants(bench: Bench, systems: list[str], wanted: list[str]) -> dict[str, list[str]]:
    """The variants of each system, those wanted if any are named."""

    def listed(system: str) -> Any:
        return bench.python(system, module(system), "--variants")

    with ThreadPoolExecutor(2) as pool:  # each imports all of its package
        answers = dict(zip(systems, pool.map(listed, systems), strict=True))
    for system in systems:
        if isinstance(answers[system], dict):
            reason = answers.pop(system)["failed"]
            bench.console.print(f"{system} can't be used here: {reason}", highlight=False)
    return {system: [name for name in names if not wanted or name in wanted] for system, names in answers.items()}


def module(system: str) -> str:
    """Where the system's script is."""
    return "ours" if system == OURS else f"peers.{system}"


def perform(bench: Bench, options: argparse.Namespace) -> list[Measurement]:
    """All that the budget allows; returns what is left."""
    start = time.monotonic()
    queue = measurements(options.tasks, variants(bench, options.systems, options.variants))
    done = bench.found["rows"] if options.missing else {}
    queue = [one for one in queue if one.name not in done.get(one.task, {})]
    for task in options.tasks:
        bench.task(task)
    with tempfile.TemporaryDirectory() as folder:
        ours = OURS in options.systems and not options.variants
        if ours and AGREEMENT_TASK in options.tasks:
            if not (options.missing and "iterations" in bench.found):
                bench.iterations()
            if "kronfluence" in options.systems and not (options.missing and "agreement" in bench.found):
                bench.agreement(Path(folder))
        if options.large:
            bench.large()
        while queue and time.monotonic() - start < 60 * options.budget:
            bench.row(queue.pop(0), Path(folder, "scores.npz"))
    return queue


def main() -> None:
    systems = [OURS, *(name for name in environments.PEERS if (Path(__file__).parent / f"peers/{name}.py").exists())]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(known: list[str] | tuple[str, ...]) -> Any:
        def read(text: str) -> list[str]:
            unknown = set(text.split(",")) - set(known)
            if unknown:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
            return text.split(",")

        return read

    parser.add_argument("--tasks", type=names(TASKS), default=list(TASKS), help=f"of {', '.join(TASKS)}")
    parser.add_argument("--systems", type=names(systems), default=systems, help=f"of {', '.join(systems)}")
    parser.add_argument("--variants", type=lambda text: text.split(";"), default=[], help="by name, between semicolons")
    parser.add_argument("--missing", action="store_true", help="only what results.json lacks")
    parser.add_argument("--large", action="store_true", help="the memory of 50,000 images × 100 queries too")
    parser.add_argument("--limit", type=float, default=240, help="seconds of one measurement (default 240)")
    parser.add_argument("--budget", type=float, default=20, help="minutes after which none is begun (default 20)")
    parser.add_argument("--threads", type=int, default=2, help="for each system (default 2)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # by which the measurement ends too
    console = Console(width=report.WIDTH)
    bench = Bench(options.threads, options.limit, console)
    left = perform(bench, options)
    report.write(bench.found)
    report.show(bench.found, options.tasks, console)
    for measurement in left:
        console.print(f"left: {measurement.task} · {measurement.name}", highlight=False)
    if left:
        console.print(f"{len(left)} measurements are left: run again with --missing")


if __name__ == "__main__":
    main()
