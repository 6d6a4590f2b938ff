"""The command line of every system's script, and the answer that it prints. numpy and torch only.

    python -m benchmarks.fidelity.peers.PEER --problem FILE.npz --task mnist-mlp --variant NAME --answer OUT.npz
    python -m benchmarks.fidelity.peers.PEER --variants --task mnist-mlp

A script gives `run` its variants by name. For tasks that are held against retraining a variant fits (whatever is
prepared once, queries unseen) and returns a `Fitted`, whose ``score`` maps a damping to scores ``[queries, train]``:
larger = more helpful to the query (the sign of `upweight`'s removal; in its unit, nats of the query's loss, where the
script says so). For convex tasks it is a `Solver`.

The last line printed is JSON: ``stages`` (seconds), ``memory`` (growth in MiB), ``version``, ``settings``; or
``failed`` with the reason. ``--variants`` prints the names instead.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.fidelity import models
from benchmarks.fidelity.peers import fitted, solved
from benchmarks.fidelity.peers.fitted import Variant
from benchmarks.fidelity.peers.problem import Refused, read
from benchmarks.fidelity.peers.solved import Solver


def run(package: str, variants: Mapping[str, Variant], solvers: Mapping[str, Solver] | None = None) -> None:
    """The command line, with variants for tasks that are held against retraining and solvers for convex ones."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variants", action="store_true", help="print the names of the task's variants and stop")
    parser.add_argument("--problem")
    parser.add_argument("--task", choices=models.TASKS, required=True)
    parser.add_argument("--variant")
    parser.add_argument("--answer")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--damping", default="default", help="'default', 'best' (highest LDS of a grid), or a number")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="relative residual (convex tasks)")
    parser.add_argument("--few", type=int, help="queries from which the time of one by one is extrapolated")
    parser.add_argument("--limit", type=float, default=1800, help="seconds of fitting, and of each scoring")
    parser.add_argument("--memory", type=float, default=16, help="GiB of address space that the process may take")
    options = parser.parse_args()
    convex = options.task in models.CONVEX
    known: Mapping[str, Any] = (solvers or {}) if convex else variants
    if options.variants:
        print(json.dumps(list(known)))
        return
    if options.variant not in known:
        parser.error(f"argument --variant: {options.variant}: not among {', '.join(known)}")
    resource.setrlimit(resource.RLIMIT_AS, (int(options.memory * 2**30),) * 2)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    found: dict[str, Any] = {"version": importlib.metadata.version(package)}
    try:
        problem = read(options.problem, options.task, options.queries)
        measure = solved.measure if convex else fitted.measure
        arrays, measured = measure(known[options.variant], problem, options)
        np.savez(options.answer, **arrays)
        found |= measured
    except Exception as error:
        traceback.print_exc()
        found["failed"] = _words(error)
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def _words(error: Exception) -> str:
    """The error in one short line."""
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, Refused | TimeoutError):
        return first
    failing = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return f"{type(error).__name__}: {first or failing}"[:240]
