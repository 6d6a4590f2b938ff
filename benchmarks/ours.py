"""upweight on the problems of `benchmarks.problem`, one measurement per process.

    python -m benchmarks.ours comparison --answer answer.npz
    python -m benchmarks.ours cg --problem "ten digits"

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

import upweight as uw
from benchmarks import problem
from benchmarks.measure import Growth, seconds
from upweight.inverse import CG
from upweight.quantities.perturbation import perturbation as differentiate

Measured = dict[str, Any]


def work(model: nn.Module, loss: Any, train, queries, l2: float, inverse: Any) -> tuple[Any, Any, dict[str, float]]:
    """Gradients ``[queries, p]``, values ``[queries, train]`` and the seconds of each stage."""
    start, cpu = time.perf_counter(), time.process_time()
    objective = uw.Objective(model, loss, train, l2=l2)
    influence = uw.Influence(objective, inverse)
    _ = influence.solver
    fitted = time.perf_counter()
    solution, _ = influence.query_solution(queries)
    solved = time.perf_counter()
    values = objective.inner(solution.x)
    done = time.perf_counter()
    stages = {"prepare": fitted - start, "factors": solved - fitted, "values": done - solved, "total": done - start}
    stages["processor"] = time.process_time() - cpu
    return solution, values, stages


def comparison(options: argparse.Namespace) -> Measured:
    """The work that the peer does too: factors of all queries, and their values on all training data."""
    objective, queries = problem.read(options.problem)
    model, loss, train, l2 = objective.model, objective.loss, problem.examples(objective), float(objective.l2[0])
    inverse = CG(tolerance=options.tolerance) if options.variant == "CG" else None
    few = tuple(part[:1000] for part in train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a thousand examples are not at their optimum
        work(model, loss, few, tuple(part[:2] for part in queries), l2, CG(tolerance=1e-2))
    with Growth() as growth:
        solution, values, stages = work(model, loss, train, queries, l2, inverse)
    np.savez(options.answer, factors=solution.x.numpy(), values=values.numpy())
    return {"stages": stages, "memory": growth.mib, "report": str(solution.report), "floor": floor(model, loss, train)}


def floor(model: nn.Module, loss: Any, train) -> float:
    """Seconds of one plain forward and backward over all training data."""

    def once() -> None:
        torch.autograd.grad(loss(model, train).mean(), list(model.parameters()))

    return seconds(once, 5)


def cg(options: argparse.Namespace) -> Measured:
    """Seconds of solving for one query and for all, features and curvatures already there."""
    objective, queries = problem.read(options.problem, rows=options.rows)
    influence = uw.Influence(objective, CG(tolerance=options.tolerance))
    gradients, solver = influence.query_gradients(queries), influence.solver
    _ = objective.engine.linear_factors
    many = solver.solve(gradients).report
    each = [solver.solve(gradients[[k]]).report.iterations for k in (0, len(gradients) // 2, len(gradients) - 1)]
    one_time = seconds(lambda: solver.solve(gradients[:1]), options.repeats, warm=True)
    many_time = seconds(lambda: solver.solve(gradients), options.repeats, warm=True)
    return {
        "n": objective.n,
        "p": objective.p,
        "queries": len(gradients),
        "one": one_time,
        "all": many_time,
        "ratio": many_time / one_time,
        "iterations_one": each,
        "iterations_all": many.iterations,
        "residual_all": float(many.residuals.max()),
        "floor": floor(objective.model, objective.loss, problem.examples(objective)),
    }


def perturbation(options: argparse.Namespace) -> Measured:
    """I_pert,loss of one pair: alone, beside one example's gradient; with its solve, beside a full gradient."""
    objective, queries = problem.read(options.problem)
    influence = uw.Influence(objective, CG(tolerance=options.tolerance))
    query = tuple(part[:1] for part in queries)
    influence.perturbation(0, query)
    direction = influence.query_solution(query)[0].x[0]
    one = objective.data.take([0])
    leaves = list(objective.model.parameters())

    def gradient() -> None:
        torch.autograd.grad(objective.loss(objective.model, one).sum(), leaves)

    pair = seconds(lambda: [differentiate(objective, direction, 0, None, "") for _ in range(50)], 7) / 50
    example = seconds(lambda: [gradient() for _ in range(50)], 7) / 50
    whole = seconds(lambda: influence.perturbation(0, query), 3, warm=True)
    full = floor(objective.model, objective.loss, problem.examples(objective))
    return {
        "pair": pair,
        "example_gradient": example,
        "pair_over_example_gradient": pair / example,
        "with_solve": whole,
        "full_gradient": full,
        "with_solve_over_full_gradient": whole / full,
    }


class Rows(torch.utils.data.Dataset):
    """Examples made when asked for, so that the data itself takes no memory."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(int(index))
        return torch.rand(784, generator=generator), torch.tensor(index % 10)


def memory(options: argparse.Namespace) -> Measured:
    """Peak growth of memory by an attribution of 10 queries over ``rows`` examples, at batches of 500."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    queries = Rows(10)
    inverse = CG(uw.curvature.GGN(), damping=1.0, tolerance=0.1, max_iterations=5)
    with warnings.catch_warnings(), Growth() as growth:
        warnings.simplefilter("ignore")  # untrained: only the memory is looked at
        objective = uw.Objective(model, uw.losses.CrossEntropy(), Rows(options.rows), batch_size=500)
        scores = uw.Influence(objective, inverse).attribute(queries).scores
    return {"n": options.rows, "memory": growth.mib, "scores": scores.numel() * scores.element_size() / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("measurement", choices=("comparison", "cg", "perturbation", "memory"))
    parser.add_argument("--problem", default="1 vs 7")
    parser.add_argument("--variant", choices=("CG", "default"), default="CG")
    parser.add_argument("--answer")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(globals()[options.measurement](options)))


if __name__ == "__main__":
    main()
