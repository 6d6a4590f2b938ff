"""Models retrained without examples, or with examples replaced, many at once from the trained θ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight import kinds, scalars
from upweight.checks.values import refuse_bad_targets
from upweight.curvature import GGN, Curvature, Hessian
from upweight.data import Batch
from upweight.errors import InputError, NotConvergedWarning, warn
from upweight.inverse import CG, Dense, Solver, precondition
from upweight.linalg.lbfgs import HISTORY, minimise
from upweight.losses import with_targets
from upweight.objective import Objective
from upweight.progress import track
from upweight.retraining.fit import default_tolerance, refuse_coarse

INVERTED_UP_TO = 10_000
MODEL_ELEMENTS = 2**27
"""Numbers held for the models of one block: θ, gradients and secant pairs."""


@dataclass(frozen=True)
class Retrained:
    """Counterfactual models.

    Attributes
    ----------
    params
        θ of each model, ``[k, p]``.
    gradient_norms
        ‖∇R_j‖ of each model's own objective, ``[k]``.
    evaluations
        Passes over the data that each took, ``[k]``.
    tolerances
        The norm asked for, ``[k]``.
    seconds
        Wall time, the factorisation included.
    """

    params: Float[Tensor, "k p"]
    gradient_norms: Float[Tensor, " k"]
    evaluations: Int[Tensor, " k"]
    tolerances: Float[Tensor, " k"]
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether every model reached the tolerance."""
        return bool((self.gradient_norms <= self.tolerances).all())


@dataclass(frozen=True)
class Difference:
    """One counterfactual: examples taken out, and examples put in at the same weight."""

    removed: Batch
    removed_weights: Float[Tensor, " u"]
    added: Batch | None = None


Problem = TypeVar("Problem")

EvaluateTogether = Callable[[Tensor, Sequence[Problem], bool], tuple[Tensor, Tensor]]
"""(θ [k, p], k problems, whether all θ are the same) -> values [k] and gradients [k, p], each at its own θ."""


def leave_out(
    objective: Objective,
    groups: Sequence[Any],
    *,
    renormalize: bool = False,
    tolerance: float | None = None,
    solver: Solver | None = None,
    max_iterations: int = 60,
) -> Retrained:
    """Retrain without each group of training examples.

    Parameters
    ----------
    objective
        The trained model; each model starts at its θ and is brought down its risk without the group.
    groups
        Positions to leave out: one number (leave-one-out) or a list of numbers per model.
    renormalize
        Take the mean over the examples left, with the l2 penalty as it is; default: weights stay 1/n.
    tolerance
        ‖∇R_j‖ of each model (default 1e-9 in float64, 1e-5 in float32).
    solver
        A fitted inverse of the objective's curvature to precondition with, in any precision (default: made here).
    max_iterations
        Of each minimisation (default 60); a warning says where ``tolerance`` was not reached.

    Raises
    ------
    InputError
        If there is no group, or one is all of the training data.
    """
    kinds.check(leave_out, locals())
    scalars.flag("renormalize", renormalize)
    checked_limits(tolerance, max_iterations)
    members = as_groups(objective, groups)
    if not members:
        raise InputError("groups: give at least one group of positions to leave out")
    if any(len(group) == objective.n for group in members):
        raise InputError(f"groups: one is all {objective.n} training examples; nothing would be left to train on")
    changes = [Difference(objective.data.take(group), objective.weights[group]) for group in members]
    return _retrain(objective, changes, renormalize, tolerance, solver, max_iterations)


def replace(
    objective: Objective,
    groups: Sequence[Any],
    examples: Any,
    *,
    start: Float[Tensor, "k p"] | None = None,
    tolerance: float | None = None,
    solver: Solver | None = None,
    max_iterations: int = 60,
) -> Retrained:
    """Retrain with each group of training examples replaced.

    Parameters
    ----------
    objective
        The trained model with its training data, which stays as it is.
    groups
        Positions to replace: one number or a list of numbers per model.
    examples
        What stands in their places, in the form of the training data and in the order of the groups.
    start
        θ that each model starts from (default: the trained θ).
    tolerance, solver, max_iterations
        As for `leave_out`.

    Raises
    ------
    InputError
        If there is no group, or not one example for each position.
    """
    kinds.check(replace, locals())
    checked_limits(tolerance, max_iterations)
    members = as_groups(objective, groups)
    if not members:
        raise InputError("groups: give at least one group of positions to replace")
    data = objective.queries(examples)
    total = sum(len(group) for group in members)
    if len(data) != total:
        raise InputError(f"examples: need one for each of the {total} positions; got {len(data)}")
    for _, batch in data.batches(None, objective.engine.rows):
        refuse_bad_targets(objective.problem, batch)
    places = torch.arange(total).split([len(group) for group in members])
    changes = [
        Difference(objective.data.take(group), objective.weights[group], data.take(place))
        for group, place in zip(members, places, strict=True)
    ]
    return _retrain(objective, changes, False, tolerance, solver, max_iterations, start)


def as_groups(objective: Objective, groups: Sequence[Any] | Tensor) -> list[Int[Tensor, " u"]]:
    """The positions of each group, where one number is a group of its own."""
    return [objective.positions([group] if np.ndim(group) == 0 else group) for group in groups]


def checked_limits(tolerance: float | None, max_iterations: int) -> None:
    """Refuse limits of a minimisation that are none."""
    if tolerance is not None:
        scalars.number("tolerance", tolerance, above=0)
    scalars.whole("max_iterations", max_iterations)


def relabel(objective: Objective, indices: Any, targets: Any, **options: Any) -> Retrained:
    """Retrain with one training example's label changed, once for each of ``indices``.

    Parameters
    ----------
    objective
        The trained model with its training data.
    indices
        Positions, a mask or ids of training examples; model j has another label for the j-th alone.
    targets
        The other labels, one for each index, in the form of the training data's.
    options
        `replace`'s ``start``, ``tolerance``, ``solver`` and ``max_iterations``.

    Returns
    -------
    One model for each index, θ ``[indices, p]`` in ``params``.

    Raises
    ------
    InputError
        If there isn't one target for each index.
    """
    kinds.check(relabel, locals())
    positions = objective.positions(indices)
    given = torch.atleast_1d(kinds.numbers("targets", targets)).to(objective.device)
    if len(given) != len(positions):
        raise InputError(f"targets: need one for each of the {len(positions)} indices; got {len(given)}")
    return replace(objective, positions.tolist(), with_targets(objective.data.take(positions), given), **options)


def _retrain(
    objective: Objective,
    changes: list[Difference],
    renormalize: bool,
    tolerance: float | None,
    solver: Solver | None,
    max_iterations: int,
    start: Tensor | None = None,
) -> Retrained:
    goal = default_tolerance(objective.dtype) if tolerance is None else tolerance
    return retrain_all(
        objective,
        changes,
        partial(_counterfactual, objective, renormalize),
        lambda norms: torch.full_like(norms, goal),
        lambda: solver or preconditioner(objective),
        max_iterations,
        start,
    )


def retrain_all(
    objective: Objective,
    problems: Sequence[Problem],
    evaluate: EvaluateTogether[Problem],
    goals: Callable[[Tensor], Tensor],
    solver: Callable[[], Solver],
    max_iterations: int,
    start: Float[Tensor, "k p"] | None = None,
) -> Retrained:
    """Minimise one objective per problem from the trained θ or from ``start``, in blocks of bounded memory.

    Parameters
    ----------
    goals
        From ‖∇‖ of each problem at the trained θ, ``[k]``, the norm to reach.
    solver
        Makes the fitted inverse that preconditions all of them.
    """
    refuse_coarse(objective)
    started = time.perf_counter()
    fitted = solver()
    block = max(MODEL_ELEMENTS // (objective.p * (2 * HISTORY + 6)), 1)
    parts, tolerances = [], []
    for first in track(range(0, len(problems), block), f"retraining {len(problems)} models"):
        chosen = problems[first : first + block]

        def values(params: Tensor, rows: Tensor, chosen: Sequence[Problem] = chosen) -> tuple[Tensor, Tensor]:
            return evaluate(params, [chosen[row] for row in rows.tolist()], False)

        shared = objective.params.expand(len(chosen), -1)
        begin = shared if start is None else start[first : first + block]
        at_start = evaluate(begin, chosen, start is None)
        tolerances.append(goals(at_start[1].norm(dim=1)))
        parts.append(
            minimise(values, begin, at_start, lambda v: precondition(fitted, v), tolerances[-1], max_iterations)
        )
    result = Retrained(
        torch.cat([part.params for part in parts]),
        torch.cat([part.gradient_norms for part in parts]),
        torch.cat([part.evaluations for part in parts]),
        torch.cat(tolerances),
        time.perf_counter() - started,
    )
    if not result.converged:
        _warn(result)
    return result


def _warn(result: Retrained) -> None:
    failed = result.gradient_norms > result.tolerances
    worst = (result.gradient_norms - result.tolerances).argmax()
    warn(
        f"retraining: {int(failed.sum())} of {len(failed)} models stopped at ‖∇R‖ up to "
        f"{float(result.gradient_norms[worst]):.2e}, above the tolerance {float(result.tolerances[worst]):.0e}; use "
        "float64 (objective.to(torch.float64)), more max_iterations or a larger tolerance. A model with kinks (ReLU) "
        "may have its minimum at one, where no gradient is small",
        NotConvergedWarning,
    )


def preconditioner(objective: Objective, damping: float = 0.0) -> Solver:
    """An inverse of the objective's curvature + δI: its factor where that fits, else loose conjugate gradients."""
    curvature: Curvature = GGN() if objective.engine.function.split else Hessian()
    if objective.p <= INVERTED_UP_TO:
        return Dense(curvature, damping=damping).fit(objective)
    return CG(curvature, damping=damping, tolerance=1e-4).fit(objective)


def _counterfactual(
    objective: Objective, renormalize: bool, params: Float[Tensor, "k p"], changes: Sequence[Difference], shared: bool
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
    """R_j and ∇R_j: the whole objective at every θ_j in one pass, less and plus each one's own examples.

    ``shared`` says that all θ_j are the same, so that the whole objective is evaluated once.
    """
    risks, grads = objective.risks_and_gradients(params[:1] if shared else params)
    if shared:
        risks, grads = risks.repeat(len(params)), grads.repeat(len(params), 1)
    function, n = objective.engine.function, objective.n
    for j, (theta, change) in enumerate(zip(params, changes, strict=True)):
        value, gradient = function.gradient(theta, change.removed, change.removed_weights)
        if change.added is not None:
            extra, extra_gradient = function.gradient(theta, change.added, change.removed_weights)
            value, gradient = value - extra, gradient - extra_gradient
        risks[j] -= value / n
        grads[j] -= gradient / n
    if renormalize:
        left = n - torch.tensor([len(c.removed_weights) for c in changes], dtype=params.dtype, device=params.device)
        penalty = objective.penalty(params)
        risks = (risks - penalty) * (n / left) + penalty
        grads = (grads - objective.l2 * params) * (n / left)[:, None] + objective.l2 * params
    return risks, grads
