"""A large job beside the engine in memory: seconds, memory and disk.

    python -m benchmarks.jobs.large --examples 1000000 --inverse ekfac --threads 1

Prints one line of JSON. The curvature is fitted before, and not counted. The engine in memory scores the first
``--slice`` examples before the job and after it, since the machine may be faster at one time than at another.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import upweight as uw
from benchmarks.jobs import memory, problem
from upweight.store.array import ScoreArray

K = 100


def measured(work: Callable[[], Any], examples: int) -> dict[str, Any]:
    """Seconds by the clock and of the processor, and bytes beyond what was held."""
    held, started, busy = memory.forget(), time.perf_counter(), time.process_time()
    work()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return {
        "examples": examples,
        "seconds": seconds,
        "busy": busy,
        "examples_per_second": examples / seconds,
        "beyond": memory.peak() - held,
    }


def found(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    influence, queries = problem.influence(given.examples, given.inverse), problem.queries(given.queries)
    _ = influence.solver, influence.stationarity
    some = range(min(given.slice, given.examples))

    def in_memory() -> dict[str, Any]:
        return measured(lambda: influence.attribute(queries, train=some), len(some))

    in_memory()  # the first has buffers to make
    before = in_memory()
    place = folder / "top"
    top = measured(lambda: influence.attribute(queries, store=place, top_k=K), given.examples)
    top["disk"] = memory.on_disk(place)
    top["kept"] = given.queries * min(K, given.examples) * 2 * (4 + 8)  # a float32 and an int64 each, at both ends
    after = in_memory()
    dense = measured(lambda: influence.attribute(queries, store=folder / "dense", train=some), len(some))
    dense["disk"], dense["scores"] = memory.on_disk(folder / "dense"), given.queries * len(some)
    stored = uw.Stored.open(place)
    return {
        "parameters": influence.objective.p,
        "queries": given.queries,
        "k": K,
        "shards": ScoreArray(**stored.said["array"]).shards,
        "report": str(stored.report).split(",")[0],
        "data": 4 * problem.FEATURES * given.examples + 8 * given.examples,
        "in_memory": [before, after],
        "top": top,
        "dense": dense,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--slice", type=int, default=50_000)
    parser.add_argument("--inverse", choices=list(problem.INVERSES), default="ekfac")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where stores are made (default: the system's temporary one)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore", uw.UpweightWarning)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(json.dumps(found(given, Path(folder))))


if __name__ == "__main__":
    main()
