"""A convex task solved: factors of the queries, and their values on all training data, to a tolerance, by the clock.

A solver prepares (queries unseen) and returns a `Solved`. What makes the comparison exact: all solve (H + λ)x = ∇L_q
for the Hessian H of the mean loss, and stop at ‖r‖ ≤ tolerance·‖∇L_q‖. A small piece of the work comes first,
unmeasured.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from benchmarks.fidelity.measure import Growth, limited
from benchmarks.fidelity.peers.problem import Arrays, Measured, Problem

FIRST = {"train": 1000, "queries": 2}
"""What is solved before the clock starts, to a tolerance of its own."""
LOOSE = 1e-2


@dataclass(frozen=True)
class Solved:
    """What a solver prepared: factors ``[queries, p]``, values ``[queries, train]`` from them; settings as text."""

    factors: Callable[[], Tensor]
    values: Callable[[Tensor], Tensor]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Solver:
    """From a problem and a tolerance; with ``one_by_one`` its time grows with the queries, as they share nothing."""

    prepare: Callable[[Problem, float], Solved]
    one_by_one: bool = False


def measure(solver: Solver, problem: Problem, options: argparse.Namespace) -> tuple[Arrays, Measured]:
    """``factors`` and ``values``; and stages (seconds of fit, factors, values, total, processor), memory, settings.

    With ``options.few`` a solver that takes queries one by one gets so many of them, and the seconds of its factors are
    extrapolated to all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of the examples are not at their optimum
        _work(solver, problem.first(**FIRST), LOOSE)
    queries = len(problem.queries[0])
    solved = options.few if options.few and solver.one_by_one else queries
    with limited(options.limit), Growth() as growth:
        arrays, stages, settings = _work(solver, problem.first(queries=solved), options.tolerance)
    if solved < queries:
        stages["factors"] *= queries / solved
        del stages["processor"]
        settings["extrapolated from queries"] = solved
    stages["total"] = stages["fit"] + stages["factors"] + stages["values"]
    return arrays, {"stages": stages, "memory": growth.mib, "settings": {"tolerance": options.tolerance, **settings}}


def _work(solver: Solver, problem: Problem, tolerance: float) -> tuple[Arrays, dict[str, float], dict[str, Any]]:
    start, processor = time.perf_counter(), time.process_time()
    prepared = solver.prepare(problem, tolerance)
    fitted = time.perf_counter()
    factors = prepared.factors()
    solved = time.perf_counter()
    values = prepared.values(factors)
    done = time.perf_counter()
    stages = {"fit": fitted - start, "factors": solved - fitted, "values": done - solved}
    stages["processor"] = time.process_time() - processor
    arrays = {"factors": factors.detach().numpy(), "values": values.detach().numpy()}
    return arrays, stages, {name: str(value) for name, value in prepared.settings.items()}
