"""CG for one query and for all of a convex task, features and curvatures already there.

    python -m benchmarks.fidelity.queries --problem FILE.npz --task ten-digits

Prints one line of JSON.
"""

from __future__ import annotations

from typing import Any

import upweight as uw
from benchmarks.fidelity import floor, single
from benchmarks.fidelity.measure import seconds
from benchmarks.fidelity.ours import objective
from benchmarks.fidelity.peers.problem import Problem
from upweight.inverse import CG


def measure(problem: Problem, tolerance: float = 1e-5, rows: int | None = None, repeats: int = 3) -> dict[str, Any]:
    """Seconds and iterations, on the first ``rows`` training examples."""
    problem = problem.first(train=rows)
    target = objective(problem)
    influence = uw.Influence(target, CG(tolerance=tolerance))
    gradients, solver = influence.query_gradients(problem.queries), influence.solver
    _ = target.engine.linear_factors
    many = solver.solve(gradients).report
    each = [solver.solve(gradients[[k]]).report.iterations for k in (0, len(gradients) // 2, len(gradients) - 1)]
    one_time = seconds(lambda: solver.solve(gradients[:1]), repeats, warm=True)
    many_time = seconds(lambda: solver.solve(gradients), repeats, warm=True)
    return {
        "n": target.n,
        "p": target.p,
        "queries": len(gradients),
        "one": one_time,
        "all": many_time,
        "ratio": many_time / one_time,
        "iterations_one": each,
        "iterations_all": many.iterations,
        "residual_all": float(many.residuals.max()),
        "floor": seconds(lambda: floor.whole(problem), 5),
    }


if __name__ == "__main__":
    single.main(measure, tolerance=float, rows=int, repeats=int)
