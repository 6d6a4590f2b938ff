"""Jobs of 200 shards, killed at random moments and gone on with: ``python -m benchmarks.jobs.kills [--times 50]``.

Every round begins a job in a new store, kills its whole process group by SIGKILL at a random moment between its first
step and a little after its usual end, looks at what is there, runs it again to its end, and compares every file with
those of a job that nobody disturbed. In one process and with two workers, all scores kept and few, by turns. Prints one
line of JSON. A store with a fault in it stays, and is named.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

import upweight as uw
from upweight.executors import Executor, InProcess, Processes
from upweight.jobs.run import LOG

SHARDS, WIDTH, QUERIES, K = 200, 20, 30, 5
BESIDE = ("lock", LOG)
"""Files that aren't the result."""
EXECUTORS: dict[str, Callable[[], Executor]] = {
    "in-process": InProcess,
    "processes": lambda: Processes(2, threads=1, start="fork"),
}
MOST = 4
"""Rounds for each kill that is to come before the end: how long a job takes changes with what else the machine does."""
FAULTS = ("altered", "missing", "left over", "twice", "failed")
FORKED = multiprocessing.get_context("fork")


def job(place: Path, executor: str, top_k: int | None) -> None:
    """All of the work."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHARDS * WIDTH, 8, generator=generator)
    y = torch.randint(3, (len(x),), generator=generator)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    influence = uw.Influence(uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.01), uw.inverse.EKFAC())
    influence.attribute(
        (x[:QUERIES], y[:QUERIES]), store=place, shard_size=WIDTH, top_k=top_k, executor=EXECUTORS[executor]()
    )


def begun(place: Path, executor: str, top_k: int | None) -> Any:
    """The job in a process group of its own; a fork of this process, which has imported all."""

    def run() -> None:
        os.setsid()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        job(place, executor, top_k)

    process = FORKED.Process(target=run)
    process.start()
    return process


def ended(place: Path, executor: str, top_k: int | None) -> float:
    """The job to its end; seconds.

    Raises
    ------
    RuntimeError
        If it failed.
    """
    started, process = time.perf_counter(), begun(place, executor, top_k)
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"exit code {process.exitcode}")
    return time.perf_counter() - started


def contents(place: Path) -> dict[str, bytes]:
    """All files of the result, by their names."""
    files = [file for file in place.rglob("*") if file.is_file() and file.name not in BESIDE]
    return {str(file.relative_to(place)): file.read_bytes() for file in files}


def logged(place: Path) -> Counter[int]:
    """How often each shard was written down as done; a line that a kill cut says nothing."""
    found: Counter[int] = Counter()
    for line in (place / LOG).read_text().splitlines() if (place / LOG).exists() else []:
        with suppress(ValueError):
            said = json.loads(line)
            if said["event"] == "shard":
                found[said["shard"]] += 1
    return found


def faults(place: Path, whole: dict[str, bytes]) -> list[str]:
    """What is wrong with a finished store, in words of `FAULTS`."""
    found = contents(place)
    wrong = {
        "altered": any(found[name] != whole[name] for name in found.keys() & whole.keys()),
        "missing": bool(whole.keys() - found.keys()),
        "left over": bool(found.keys() - whole.keys()),
        "twice": any(count > 1 for count in logged(place).values()),
    }
    return [name for name, is_so in wrong.items() if is_so]


def killed(place: Path, executor: str, top_k: int | None, moment: float, whole: dict[str, bytes]) -> dict[str, Any]:
    """One round."""
    process = begun(place, executor, top_k)
    process.join(moment)
    in_time = process.exitcode is None
    if in_time:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.join()
    done = sum(logged(place).values())
    try:
        ended(place, executor, top_k)
        wrong = faults(place, whole)
    except RuntimeError:
        wrong = ["failed"]
    return {"in_time": in_time, "done": done, "unlogged": SHARDS - len(logged(place)), "faults": wrong}


def rounds(executor: str, times: int, folder: Path) -> dict[str, Any]:
    """All kills of one executor."""
    usual, whole, found = {}, {}, []
    for top_k in (None, K):
        place = folder / f"whole-{executor}-{top_k}"
        usual[top_k] = ended(place, executor, top_k)
        whole[top_k] = contents(place)
    moments = random.Random(executor)
    for number in range(MOST * times):
        if sum(one["in_time"] for one in found) == times:
            break
        top_k = (None, K)[number % 2]
        place = folder / f"{executor}-{number}"
        one = killed(place, executor, top_k, moments.uniform(0, 1.05 * usual[top_k]), whole[top_k])
        found.append(one)
        if one["faults"]:
            print(f"{executor} {number}: {one}; see {place}", file=sys.stderr)
        else:
            shutil.rmtree(place)
    counts = {name: sum(name in one["faults"] for one in found) for name in FAULTS}
    done = sorted(one["done"] for one in found)
    return {
        "kills": len(found),
        "in_time": sum(one["in_time"] for one in found),
        "usual": [usual[None], usual[K]],
        "done": {"least": done[0], "median": done[len(done) // 2], "most": done[-1]},
        "faults": counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50, help="kills before its end, with each executor")
    parser.add_argument("--executors", default=",".join(EXECUTORS), help=f"of {', '.join(EXECUTORS)}")
    parser.add_argument("--folder", type=Path, help="where stores are made (default: the system's temporary one)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder, prefix="upweight-kills-"))
    found = {name: rounds(name, given.times, folder) for name in given.executors.split(",")}
    print(json.dumps({"shards": SHARDS, "executors": found}))
    if not any(sum(one["faults"].values()) for one in found.values()):
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
