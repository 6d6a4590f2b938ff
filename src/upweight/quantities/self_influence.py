"""What leaving an example out does to its own loss, to first order: ∇ℓᵀ(H+δI)⁻¹∇ℓ/n of every example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.gradients.denormals import flushed
from upweight.inverse import Solution, Solver, SolveReport, unmeasured
from upweight.objective import Objective
from upweight.progress import track
from upweight.quantities.pairs import PairSolver, self_scores
from upweight.quantities.recorded import Recorded


def quadratic(
    objective: Objective,
    solver: Solver,
    solves: Callable[[Tensor], Solution],
    positions: Tensor | None,
    renormalize: bool,
) -> tuple[Float[Tensor, " train"], SolveReport | None]:
    """The scores of examples (None: all), from factors where the solver can, else by ``solves`` of their gradients."""
    if isinstance(solver, PairSolver) and not renormalize:
        with flushed():
            scores = self_scores(objective, solver, positions) / objective.n
        return scores, unmeasured(solver.name, solver.damping, scores[:, None])
    parts, solve = [], Recorded(solves)
    size = objective.engine.block_rows(objective.p)
    total = -(-(objective.n if positions is None else len(positions)) // size)
    batches = objective.data.batches(positions, size)
    for index, batch in track(batches, "solving for training examples", total=total):
        gradients = objective.engine.function.each(objective.params, batch).materialize()
        solution = solve(gradients)
        # The example's own loss is unweighted; w_i belongs to its pull on θ alone.
        products = objective.weights[index] * (gradients * solution.x).sum(1)
        if renormalize:
            products = products + solution.x @ (objective.l2 * objective.params)
        parts.append(products)
    return torch.cat(parts) / (objective.n - renormalize), solve.report
