"""Steps of θ̂ when a whole group is left out: first order, second order, one Newton step.

Two conventions (spec: oracles 1 and 15). Weights stay 1/n: H' = H − H_U with H_U = (1/n) Σ_U H_i. Mean over the
n−u left: H' = H + q(H − H̄_U), q = u/(n−u), H̄_U and the gradients with the penalty in them. Either H' is the curvature
of the others with the penalty, their weights 1/n or 1/(n−u), and a Newton step is taken on that by conjugate
gradients, whatever the inverse: its δ is added, and it preconditions where it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import GGN, Curvature, Hessian, ObjectiveCurvature
from upweight.errors import InputError, NegativeCurvatureError
from upweight.inverse import CG, Preconditioner, Solution, Solver, warned
from upweight.inverse.cg import CGSolver
from upweight.inverse.dense import DenseSolver
from upweight.inverse.dual import DualSolver
from upweight.inverse.identity import IdentitySolver
from upweight.linalg.eigh import unit_diagonal
from upweight.objective import Objective
from upweight.quantities.attributor import Attributor
from upweight.quantities.moved import linear_outputs
from upweight.quantities.recorded import Recorded
from upweight.quantities.undetermined import ROUNDING, least_norm, rest_of, say_undetermined
from upweight.scalars import shown

LOOKED_INTO = 4000
"""p up to which a matrix that nothing else keeps from being singular is factorised before it is solved."""
REGULAR = 1e-6
"""Smallest pivot of a matrix with unit diagonal from which it is far from singular."""


def read_members(objective: Objective, indices: Any) -> list[Tensor]:
    """Positions of one group, or of each in a list of groups.

    Raises
    ------
    InputError
        If they are none, or a group is all training examples.
    """
    is_other = isinstance(indices, str | Mapping) or hasattr(indices, "columns")
    if is_other or not hasattr(indices, "__getitem__") or getattr(indices, "ndim", 1) == 0:
        raise InputError(f"indices: give a list of positions, or a list of such groups; got {shown(indices)}")
    first = next(iter(indices), None)  # of a column of a table, whose labels needn't begin at 0
    nested = first is not None and (np.ndim(first) > 0 or isinstance(first, range))
    found = [objective.positions(group) for group in (indices if nested else [indices])]
    if any(len(group) == objective.n for group in found):
        raise InputError(
            f"indices: the group is all {objective.n} training examples; without them nothing would be left"
        )
    return found


def step(
    influence: Attributor,
    solve: Recorded,
    members: Tensor,
    order: Literal["first", "second", "newton"],
    renormalize: bool,
) -> Float[Tensor, "1 p"]:
    """Predicted θ̂(without the group) − θ̂."""
    if order not in ("first", "second", "newton"):
        raise InputError(f"order: 'first', 'second' or 'newton'; got {order!r}")
    objective = influence.objective
    n, u = objective.n, len(members)
    if renormalize and u == n:
        raise InputError(f"indices: the group is all {n} training examples; nothing would be left to train on")
    total = torch.zeros_like(objective.params)
    for _, gradients in objective.example_gradients(members):
        total += gradients.sum(0)
    if renormalize:
        pull = (total + u * objective.l2 * objective.params) / (n - u)
    else:
        pull = total / n
    if order == "newton":
        return _newton(influence, solve, members, pull, 1 / (n - u) if renormalize else 1 / n)[None]
    first = solve(pull[None]).x
    if order == "first":
        return first
    curvature = _curvature(influence.solver, objective)
    part = curvature.share(members).apply(first)
    if renormalize:
        mean = part * (n / u) + objective.l2 * first
        part = (mean - curvature.apply(first)) * (u / (n - u))
    return first + solve(part).x


def _curvature(solver: Solver, objective: Objective) -> ObjectiveCurvature:
    """The solver's own matrix if it is one of all examples; else the GGN, or the Hessian of a loss without outputs."""
    operator = solver.operator
    if isinstance(operator, ObjectiveCurvature) and not isinstance(solver, IdentitySolver):
        return operator
    if not isinstance(getattr(operator, "objective", None), Objective):
        raise InputError(
            "inverse: orders 'second' and 'newton' need an inverse fitted to the objective, as every one of "
            f"upweight.inverse is by Influence(objective, inverse); this {type(solver).__name__} is fitted to a "
            f"{type(operator).__name__}, which doesn't say what a group's part of it is"
        )
    chosen: Curvature = GGN() if objective.engine.function.split else Hessian()
    found = chosen.of(objective)
    assert isinstance(found, ObjectiveCurvature)
    return found


def _newton(
    influence: Attributor, solve: Recorded, members: Tensor, pull: Float[Tensor, " p"], scale: float
) -> Float[Tensor, " p"]:
    """One Newton step on the objective without the members, whose others count ``scale`` each."""
    _ = influence.stationarity
    solver, objective = influence.solver, influence.objective
    name = _curvature(solver, objective).name
    wide = objective.to(torch.float64) if objective.engine.linear_factors is not None else objective  # cheap there
    matrix = rest_of(wide, name, members, scale)
    right = pull.to(wide.dtype)
    may_be_singular = solver.damping == 0 and bool((objective.l2 == 0).any())
    if may_be_singular and wide.p <= LOOKED_INTO:
        found = _flat(matrix.dense())
        if found is not None:
            straight = linear_outputs(objective)
            _say(objective, members, straight)
            solved = least_norm(wide, found.solve(right), found.directions) if straight else right * torch.nan
            return solved.to(pull)
    try:
        return warned(solve.add(_conjugate_gradients(solver, matrix, right[None]))).x[0].to(pull)
    except NegativeCurvatureError:
        if not may_be_singular or (name != GGN.name and not linear_outputs(objective)):
            raise
        _say(objective, members, False)
        return pull * torch.nan


def _say(objective: Objective, members: Tensor, limit: bool) -> None:
    say_undetermined(objective.ids[members.numpy()].tolist(), limit, group=True)


def _conjugate_gradients(solver: Solver, matrix: ObjectiveCurvature, right: Float[Tensor, "1 p"]) -> Solution:
    """(H' + δI)⁻¹ of the pull; without preconditioner where the inverse is none that is positive definite."""
    settings = CG(damping=solver.damping, tolerance=1e-12 if matrix.dtype == torch.float64 else None)
    inner = solver.preconditioner if isinstance(solver, CGSolver) else solver
    if isinstance(inner, Preconditioner | DenseSolver | DualSolver):
        try:
            found = CGSolver(matrix, solver.damping, settings, inner).solve(right)
            if found.report.converged:
                return found
        except NegativeCurvatureError:
            pass
    return CGSolver(matrix, solver.damping, settings).solve(right)


@dataclass(frozen=True)
class _Flat:
    """A singular matrix by its eigenvectors at unit diagonal, those of zero apart."""

    values: Float[Tensor, " r"]
    basis: Float[Tensor, "r p"]
    directions: Float[Tensor, "k p"]

    def solve(self, vector: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """A solution, up to the flat directions."""
        return ((self.basis @ vector) / self.values) @ self.basis


def _flat(matrix: Float[Tensor, "p p"]) -> _Flat | None:
    """Directions that a positive semi-definite matrix leaves flat, or None if it leaves none."""
    scaled, scale = unit_diagonal(matrix)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if not int(failed) and float(factor.diagonal().min()) ** 2 > REGULAR:
        return None
    values, vectors = torch.linalg.eigh(scaled)
    zero = values <= ROUNDING * torch.finfo(matrix.dtype).eps * values[-1].clamp_min(1)
    if not zero.any() or bool(values[0] < -len(values) * REGULAR):
        return None  # regular, or negative curvature, of which the solver says the figure
    rows = vectors.T * scale
    return _Flat(values[~zero], rows[~zero], rows[zero])
