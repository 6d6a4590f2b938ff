"""The same job by one process and by two workers of one thread each.

    python -m benchmarks.jobs.workers --examples 400000 --systems in-process,processes,ray

Prints one line of JSON: by system the seconds of the whole call, starting its workers included, the examples a second
between the first shard's end and the last's, and whether the result has the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import upweight as uw
from benchmarks.jobs import problem
from upweight.executors import Executor, InProcess, Processes
from upweight.jobs.run import LOG

K, WORKERS = 100, 2


def with_ray() -> Executor:
    """On a Ray of this machine, started for the job."""
    from upweight.executors import Ray

    return Ray(WORKERS, num_cpus=1)


SYSTEMS: dict[str, Callable[[], Executor]] = {
    "in-process": InProcess,
    "processes": lambda: Processes(WORKERS, threads=1),
    "ray": with_ray,
}


def job(influence: uw.Influence, queries: Any, executor: Executor, width: int, place: Path) -> dict[str, Any]:
    """One job in a new store."""
    started = time.perf_counter()
    influence.attribute(queries, store=place, top_k=K, executor=executor, shard_size=width)
    seconds, n = time.perf_counter() - started, influence.objective.n
    lines = [json.loads(line) for line in (place / LOG).read_text().splitlines()]
    shards = [line for line in lines if line["event"] == "shard"]
    first, rest = shards[0], sum(line["examples"] for line in shards[1:])
    return {
        "workers": executor.workers,
        "seconds": seconds,
        "examples_per_second": n / seconds,
        "steady": rest / (shards[-1]["time"] - first["time"]),
        "to_first": first["time"] - lines[0]["time"],
        "sha256": hashlib.sha256((place / "blocks" / "extremes").read_bytes()).hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=400_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--inverse", choices=list(problem.INVERSES), default="ekfac")
    parser.add_argument("--width", type=int, default=8_000, help="examples of a shard")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of {', '.join(SYSTEMS)}; in this order")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where stores are made (default: the system's temporary one)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", uw.UpweightWarning)
    influence, queries = problem.influence(given.examples, given.inverse), problem.queries(given.queries)
    _ = influence.solver, influence.stationarity
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(given.repeats):
        for name in given.systems.split(","):
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                place = Path(folder) / "store"
                found.setdefault(name, []).append(job(influence, queries, SYSTEMS[name](), given.width, place))
    print(json.dumps({"examples": given.examples, "queries": given.queries, "width": given.width, "systems": found}))


if __name__ == "__main__":
    main()
