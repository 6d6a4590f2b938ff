"""Opening a store of a million examples: seconds and memory to one query's top 10, after the import.

    python -m benchmarks.jobs.open --examples 1000000 --queries 1000

Makes a dense store and one of the largest and smallest, of drawn scores, through the store's own classes; opens each in
a process of its own; removes them. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import upweight as uw
from benchmarks.jobs import memory, problem
from upweight.jobs import description
from upweight.jobs.shards import cut, usual_width
from upweight.linalg.extremes import Extremes, extremes, merged
from upweight.store.array import ScoreArray
from upweight.store.backend import Local
from upweight.store.blocks import Blocks
from upweight.store.description import described, result
from upweight.store.tensors import pack
from upweight.stored.names import EXTREMES, SCORES

K, TOP, QUERY = 100, 10, 7


def made(place: Path, examples: int, queries: int, top_k: int | None) -> None:
    """A store as a job would leave it, its scores drawn; what it says of itself is a small job's."""
    with tempfile.TemporaryDirectory() as folder:
        problem.influence(50, "kfac").attribute(problem.queries(2), store=folder, top_k=top_k)
        said, outcome = described(Local(Path(folder))), result(Local(Path(folder)))
    assert said is not None
    assert outcome is not None
    width = usual_width(examples, 4 * queries, examples, 1, dense=top_k is None)
    array = ScoreArray(SCORES, queries, examples, width, "float32")
    whole = {**said, "array": vars(array), "ids": {**said["ids"], "count": examples}}
    whole["query_ids"] = {**said["query_ids"], "count": queries}
    backend, generator = Local(place), torch.Generator().manual_seed(0)
    description.begin(backend, whole, resume=True)
    backend.write(*array.description())
    found: dict[str, Extremes] = {}
    for shard in cut(examples, width):
        scores = torch.randn(queries, shard.stop - shard.start, generator=generator)
        if top_k is None:
            name = f"{SCORES}-{shard.name}"
            Blocks(backend).commit(name, array.encoded(scores.numpy()), key=array.key(shard.number))
            continue
        for name, descending in (("largest", True), ("smallest", False)):
            some = extremes(scores, shard.start, top_k, descending=descending)
            found[name] = merged([found[name], some], top_k) if name in found else some
    if top_k is not None:
        kept = {name: one.values for name, one in found.items()}
        kept |= {f"{name}_at": one.places for name, one in found.items()}
        Blocks(backend).commit(EXTREMES, pack(kept))
    description.finish(backend, outcome)


def opened(place: Path) -> dict[str, Any]:
    """What it takes to open a store and to ask it for one query's best."""
    held, started = memory.forget(), time.perf_counter()
    stored = uw.Stored.open(place)
    after, ranking = time.perf_counter(), stored.top(TOP, queries=[QUERY])
    seconds = time.perf_counter() - started
    assert ranking.positions.shape == (1, TOP)
    return {"seconds": seconds, "to_open": after - started, "beyond": memory.peak() - held, "shape": stored.shape}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where stores are made (default: the system's temporary one)")
    parser.add_argument("--store", type=Path, help="open this one, in this process, and nothing else")
    given = parser.parse_args()
    if given.store is not None:
        print(json.dumps(opened(given.store)))
        return
    warnings.simplefilter("ignore", uw.UpweightWarning)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for name, top_k in (("dense", None), ("top", K)):
            place = Path(folder) / name
            made(place, given.examples, given.queries, top_k)
            call = [sys.executable, "-m", "benchmarks.jobs.open", "--store", str(place)]
            runs = [
                json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
                for _ in range(given.times)
            ]
            found[name] = {"disk": memory.on_disk(place), "runs": runs}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
