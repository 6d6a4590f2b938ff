"""Iterations of CG to the exact damped GGN, plain and preconditioned, for single queries and a block.

    python -m benchmarks.fidelity.iterations --problem FILE.npz --task mnist-mlp

Prints one line of JSON.
"""

from __future__ import annotations

import time
from typing import Any

import upweight as uw
from benchmarks.fidelity.ours import objective
from benchmarks.fidelity.peers.problem import Problem
from benchmarks.fidelity.single import main
from upweight.inverse import CG, EKFAC, Dual, Inverse, Solver

TOLERANCE = 1e-4
SINGLE = 3
BLOCK = 32
PRECONDITIONERS: dict[str, Inverse] = {
    "dual-2500": Dual(rows=2500),
    "dual-5000": Dual(rows=5000),
    "ekfac": EKFAC(damping="auto"),
}


def measure(problem: Problem, damping: float | None = None) -> dict[str, Any]:
    """Iterations and seconds of every solver at one damping of the GGN (default: the automatic one of the dual)."""
    target = objective(problem)
    fitted: dict[str, Solver] = {name: inverse.fit(target) for name, inverse in PRECONDITIONERS.items()}
    chosen = fitted["dual-2500"].damping if damping is None else damping
    vectors = uw.Influence(target, fitted["dual-2500"]).query_gradients(problem.queries)
    found: dict[str, Any] = {"task": problem.task, "damping": chosen, "tolerance": TOLERANCE, "block": BLOCK}
    found["solvers"] = {}
    for name in ("plain", *fitted):
        preconditioner = None if name == "plain" else fitted[name].with_damping(chosen)
        solver = CG(uw.curvature.GGN(), damping=chosen, tolerance=TOLERANCE, preconditioner=preconditioner).fit(target)
        start = time.perf_counter()
        single = [solver.solve(vectors[[k]]).report for k in range(SINGLE)]
        seconds = (time.perf_counter() - start) / SINGLE
        count = [report.iterations for report in single]
        converged = all(report.converged for report in single)
        each: dict[str, Any] = {"single": count, "seconds": seconds, "converged": converged}
        found["solvers"][name] = each
        if sum(count) <= sum(found["solvers"]["plain"]["single"]):  # a block is dear; others would only lose more
            start = time.perf_counter()
            block = solver.solve(vectors).report
            each |= {"block": block.iterations, "block seconds": time.perf_counter() - start}
            each["converged"] = converged and block.converged
    return found


if __name__ == "__main__":
    main(measure, BLOCK, damping=float)
