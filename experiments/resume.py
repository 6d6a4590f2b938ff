"""Long experiments over seeds: each seed's numbers are committed as they come, and a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from platformdirs import user_cache_path

from experiments.results import GIB
from upweight.progress import track

Numbers = dict[str, Any]


def over_seeds(
    name: str, one: Callable[[int], Numbers], seeds: Sequence[int], *, settings: Any, jobs: int = -1
) -> list[Numbers]:
    """``one(seed)`` of every seed, in processes of one thread each; finished seeds of a run cut off are read back.

    What was kept belongs to these settings alone, and is forgotten once every seed is there: a complete run is never
    an old one. ``seconds`` (wall), ``cpu_seconds`` and the process's ``peak_memory_gib`` are added.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    folder = user_cache_path("upweight") / "experiments" / f"{name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in seeds if not _path(folder, seed).exists()]
    if len(missing) < len(seeds):
        print(f"  {len(seeds) - len(missing)} of {len(seeds)} seeds were finished before")
    work_of = _importable(one)
    with parallel_config(backend="loky", inner_max_num_threads=1):
        work = Parallel(n_jobs=jobs, return_as="generator_unordered")(
            delayed(_commit)(work_of, seed, folder) for seed in missing
        )
        for _ in track(work, name, len(missing)):
            pass
    found = [json.loads(_path(folder, seed).read_text()) for seed in seeds]
    shutil.rmtree(folder)
    return found


def _importable(function: Callable[[int], Numbers]) -> Callable[[int], Numbers]:
    """The function by its module's own name: processes can't import from ``__main__``."""
    spec = sys.modules["__main__"].__spec__
    if function.__module__ != "__main__" or spec is None:
        return function
    return getattr(importlib.import_module(spec.name), function.__name__)


def _path(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}.json"


def _commit(one: Callable[[int], Numbers], seed: int, folder: Path) -> None:
    torch.set_num_threads(1)
    began, used = time.perf_counter(), time.process_time()
    numbers = one(seed)
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
    spent["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    draft = _path(folder, seed).with_suffix(".draft")
    draft.write_text(json.dumps({**numbers, **spent}))
    os.replace(draft, _path(folder, seed))
