"""Long experiments over seeds: each seed's numbers are committed as they come, and a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from platformdirs import user_cache_path

from experiments.alone import alone
from experiments.provenance import UNKNOWN, code
from experiments.results import GIB
from upweight import files
from upweight.progress import track

Numbers = dict[str, Any]


def over_seeds(
    name: str, one: Callable[[int], Numbers], seeds: Sequence[int], *, settings: Any, jobs: int = -1
) -> list[Numbers]:
    """``one(seed)`` of every seed, in processes of one thread each; finished seeds of a run cut off are read back.

    What was kept belongs to these settings alone, and is forgotten once every seed is there: a complete run is never
    an old one. ``seconds`` (wall), ``cpu_seconds``, the process's ``peak_memory_gib`` and the ``code`` are added.

    Raises
    ------
    AlreadyRunningError
        If another process is at the same work: this one would take away what that has finished.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    folder = user_cache_path("upweight") / "experiments" / f"{name}-{digest}"
    with alone(folder):
        missing = [seed for seed in seeds if _finished(folder, seed) is None]
        if len(missing) < len(seeds):
            print(f"  {len(seeds) - len(missing)} of {len(seeds)} seeds were finished before")
            _name_others(folder, [seed for seed in seeds if seed not in missing])
        work_of = _importable(one)
        with parallel_config(backend="loky", inner_max_num_threads=1):
            work = Parallel(n_jobs=jobs, return_as="generator_unordered")(
                delayed(_commit)(work_of, seed, folder, os.getpid(), code()) for seed in missing
            )
            for _ in track(work, name, len(missing)):
                pass
        found = [json.loads(_path(folder, seed).read_text()) for seed in seeds]
        for seed in seeds:
            _path(folder, seed).unlink()
        with suppress(OSError):  # it holds other seeds of a run cut off
            folder.rmdir()
    return found


def _name_others(folder: Path, finished: Sequence[int]) -> None:
    """Say which seeds another state of the code has finished; they stay, and the result says so too."""
    others: dict[str, list[int]] = {}
    for seed in finished:
        others.setdefault(json.loads(_path(folder, seed).read_text()).get("code", UNKNOWN), []).append(seed)
    for made_by in sorted(set(others) - {code()}):
        seeds = ", ".join(map(str, others[made_by]))
        print(
            f"  by {made_by}, where this run is by {code()}: seeds {seeds}; to make them anew remove theirs in {folder}"
        )


def _finished(folder: Path, seed: int) -> Numbers | None:
    """A seed's numbers; None where there are none, or none that are whole: then the file is named."""
    path = _path(folder, seed)
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        print(f"  {path} is damaged; its seed is done again", flush=True)
        return None
    return found


def _importable(function: Callable[[int], Numbers]) -> Callable[[int], Numbers]:
    """The function by its module's own name: processes can't import from ``__main__``."""
    spec = sys.modules["__main__"].__spec__
    if function.__module__ != "__main__" or spec is None:
        return function
    return getattr(importlib.import_module(spec.name), function.__name__)


def _path(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}.json"


def _commit(one: Callable[[int], Numbers], seed: int, folder: Path, parent: int, made_by: str) -> None:
    if os.getppid() == parent:
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()
    torch.set_num_threads(1)
    began, used = time.perf_counter(), time.process_time()
    numbers = one(seed)
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
    spent["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    files.write(_path(folder, seed), json.dumps({**numbers, **spent, "code": made_by}))


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would go on, and then wait for minutes."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
