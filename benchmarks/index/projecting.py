"""Seconds that our projections of *mnist-mlp*'s gradients take:
``python -m benchmarks.index.projecting``, one JSON line.

Process seconds of one thread, from gradients that are there: factors, as ours come; the peers' scripts have theirs
written out. The gradients themselves are timed beside it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.fidelity import stored
from benchmarks.fidelity.problems import made
from benchmarks.index.agreement import TASK, objective
from benchmarks.index.peers import DIMENSIONS, EXAMPLES
from upweight.gradients import Gradients
from upweight.gradients.blocks import concatenated
from upweight.gradients.denormals import flushed
from upweight.index.fitted import fit
from upweight.index.projections import Leading, Sparse


def seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """The least of some runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    made(TASK)
    torch.set_num_threads(1)
    given = objective(stored.read(stored.path(TASK)))
    positions = torch.arange(EXAMPLES)

    def gradients() -> Gradients:
        return concatenated([found for _, found in given.engine.each(positions)])

    found: dict[str, Any] = {"examples": EXAMPLES, "gradients": seconds(gradients)}
    held = gradients()
    with flushed():
        for dimension in DIMENSIONS:
            for settings in (Sparse(dimension), Leading(dimension)):
                start = time.process_time()
                fitted = fit(settings, given)
                made_in = time.process_time() - start
                name = f"{type(settings).__name__}, {dimension}"
                found[name] = {"made": made_in, "projected": seconds(lambda fitted=fitted: fitted.of(held))}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
