"""I_pert,loss of one pair: alone, beside one example's gradient; with its solve, beside a full gradient.

    python -m benchmarks.fidelity.perturbation --problem FILE.npz --task 1-vs-7

Prints one line of JSON.
"""

from __future__ import annotations

from typing import Any

import torch

import upweight as uw
from benchmarks.fidelity import floor, single
from benchmarks.fidelity.measure import seconds
from benchmarks.fidelity.ours import objective
from benchmarks.fidelity.peers.problem import Problem
from upweight.inverse import CG
from upweight.quantities.perturbation import perturbation

TIMES = 50
"""Repetitions within one time that is taken."""


def measure(problem: Problem, tolerance: float = 1e-5) -> dict[str, Any]:
    """Seconds, and their ratios."""
    target = objective(problem)
    influence = uw.Influence(target, CG(tolerance=tolerance))
    query = problem.first(queries=1).queries
    influence.perturbation(0, query)
    direction = influence.query_solution(query)[0].x[0]
    leaves, one = list(target.model.parameters()), target.data.take([0])

    def gradient() -> None:
        torch.autograd.grad(target.loss(target.model, one).sum(), leaves)

    pair = seconds(lambda: [perturbation(target, direction, 0, None, "") for _ in range(TIMES)], 7) / TIMES
    example = seconds(lambda: [gradient() for _ in range(TIMES)], 7) / TIMES
    with_solve = seconds(lambda: influence.perturbation(0, query), 3, warm=True)
    full = seconds(lambda: floor.whole(problem), 5)
    return {
        "pair": pair,
        "example_gradient": example,
        "pair_over_example_gradient": pair / example,
        "with_solve": with_solve,
        "full_gradient": full,
        "with_solve_over_full_gradient": with_solve / full,
    }


if __name__ == "__main__":
    single.main(measure, tolerance=float)
