"""The problem of each task: made where it is missing, and its sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import upweight as uw
from benchmarks.fidelity.environments import ROOT
from benchmarks.fidelity.models import CONVEX
from benchmarks.fidelity.stored import path


def made(task: str) -> Path:
    """The task's file. Trainings on halves take hours the first time; those finished are kept if it is stopped.

    Raises
    ------
    SystemExit
        If it can't be made; the reason stands above the message.
    """
    if not path(task).exists():
        script = ("convex", task) if task in CONVEX else ("ground_truth", "run", task)
        command = [sys.executable, "-m", f"benchmarks.fidelity.{script[0]}", *script[1:]]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise SystemExit(f"the problem could not be made: python {' '.join(command[1:])}")
    return path(task)


def described(task: str) -> dict[str, Any]:
    """Sizes, and what a perfect predictor of retraining would reach (absent where there is one seed)."""
    with np.load(path(task)) as arrays:
        p = sum(arrays[name].size for name in arrays if name.startswith("param_"))
        count, seeds, queries = arrays["losses"].shape
        sizes = {"n": len(arrays["x_train"]), "p": p, "queries": queries, "l2": float(arrays["l2"])}
        if task in CONVEX:
            return sizes
        agreement, ceiling = uw.evaluation.lds.noise_ceiling(arrays["losses"].transpose(2, 1, 0))
    known = {"seed agreement": agreement, "ceiling": ceiling} if seeds > 1 else {}
    return {**sizes, "subsets": count, "seeds": seeds, **known}
