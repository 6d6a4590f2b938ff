"""Every measurement, interleaved with the peer's, each in its own process: ``python -m benchmarks.run``.

Prints a table and writes results.json and, from it, RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import problem, results
from benchmarks.fidelity import environments
from benchmarks.peer_variants import VARIANTS

ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-5
AGREEMENT = 1e-4
ONE_BY_ONE = 5
"""Queries from which the time of a peer's variant that takes them one by one is extrapolated."""


class Runner:
    """Starts measurements with the same number of threads, each in its own process."""

    def __init__(self, threads: int):
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}

    def __call__(self, python: Path | str, module: str, *arguments: object) -> dict[str, Any]:
        """The JSON in the last line that the module prints.

        Raises
        ------
        SystemExit
            If it fails; its own words stand above the message.
        """
        command = [str(python), "-m", f"benchmarks.{module}", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the measurement failed: {' '.join(command[1:])}")
        return json.loads(done.stdout.splitlines()[-1])


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the stages and the memory over runs."""
    stages = {stage: statistics.median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]}
    return {**runs[-1], "stages": stages, "memory": statistics.median(run["memory"] for run in runs)}


def peers_best(run: Runner, peer: Path, path: Path, answer: Path, note) -> tuple[str, dict[str, float]]:
    """The peer's fastest settings, and the seconds of each on all queries."""
    found = {}
    for variant, (together, _) in VARIANTS.items():
        note(f"the peer's settings: {variant}")
        few = [] if together else ["--queries", ONE_BY_ONE]
        stages = run(peer, "peer_pydvl", path, answer, "--variant", variant, "--tolerance", TOLERANCE, *few)["stages"]
        share = 1 if together else problem.QUERIES / ONE_BY_ONE
        found[variant] = stages["prepare"] + share * stages["factors"] + stages["values"]
    return min(found, key=lambda variant: found[variant]), found


def difference(ours: Path, peers: Path) -> dict[str, float]:
    """Largest |ours − peer's| of each query, relative to its largest entry; the worst query."""
    with np.load(ours) as a, np.load(peers) as b:
        return {
            name: float((np.abs(a[name] - b[name]).max(1) / np.abs(b[name]).max(1)).max())
            for name in ("factors", "values")
        }


def environment() -> Path:
    """The interpreter of the peer's environment.

    Raises
    ------
    SystemExit
        If the environment can't be made, with the reason.
    """
    try:
        return environments.python("pydvl")
    except environments.Unavailable as reason:
        raise SystemExit(f"the peer's environment could not be made: {reason}") from None


def comparison(run: Runner, repeats: int, note) -> dict[str, Any]:
    """Ours and the peer's in turn, on the same problem to the same tolerance."""
    peer, path = environment(), problem.make("1 vs 7")
    with tempfile.TemporaryDirectory() as folder:
        answers = {name: Path(folder, f"{name}.npz") for name in ("CG", "default", "peer")}
        best, variants = peers_best(run, peer, path, answers["peer"], note)
        runs: dict[str, list] = {name: [] for name in answers}
        for repeat in range(repeats):
            note(f"ours and the peer's in turn, {repeat + 1} of {repeats}")
            for name in ("CG", "default"):
                arguments = ("--variant", name, "--answer", answers[name], "--tolerance", TOLERANCE)
                runs[name].append(run(sys.executable, "ours", "comparison", *arguments))
            arguments = (path, answers["peer"], "--variant", best, "--tolerance", TOLERANCE)
            runs["peer"].append(run(peer, "peer_pydvl", *arguments))
        differences = {name: difference(answers[name], answers["peer"]) for name in ("CG", "default")}
    floor = statistics.median(one["floor"] for name in ("CG", "default") for one in runs[name])
    systems = {name: middle(found) for name, found in runs.items()}
    return {
        "n": problem.TRAIN_ROWS["1 vs 7"],
        "p": 784,
        "queries": problem.QUERIES,
        "tolerance": TOLERANCE,
        "floor": floor,
        "systems": systems,
        "peer_variant": best,
        "peer_variants": variants,
        "differences": differences,
    }


def measure(threads: int, repeats: int, note) -> dict[str, Any]:
    """Everything, as it is written to results.json."""
    run = Runner(threads)
    found: dict[str, Any] = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": threads,
            "python": platform.python_version(),
        },
        "pins": list(environments.PEERS["pydvl"].pins),
        "repeats": repeats,
        "comparison": comparison(run, repeats, note),
    }
    found["cg"] = {}
    for name in problem.TRAIN_ROWS:
        note(f"CG for one query and for {problem.QUERIES}: {name}")
        problem.make(name)
        found["cg"][name] = run(sys.executable, "ours", "cg", "--problem", name, "--tolerance", TOLERANCE)
    note("perturbation influence")
    found["perturbation"] = {
        name: run(sys.executable, "ours", "perturbation", "--problem", name) for name in problem.TRAIN_ROWS
    }
    note("memory")
    found["memory"] = [run(sys.executable, "ours", "memory", "--rows", rows) for rows in (4000, 8000)]
    return found


def processor() -> str:
    """The processor's name as the system tells it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--threads", type=int, default=1, help="for each system (default 1: fair also on a machine that others use)"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    console = Console()
    with console.status("benchmarks") as status:
        found = measure(options.threads, options.repeats, lambda text: status.update(text))
    results.write(found)
    results.show(found, console)
    worst = max(max(parts.values()) for parts in found["comparison"]["differences"].values())
    if not worst <= AGREEMENT:
        raise SystemExit(f"the answers differ by {worst:.1e} of a query's largest value; {AGREEMENT:.0e} is allowed")


if __name__ == "__main__":
    main()
