"""Training a convex objective to its optimum by Newton's method with a line search."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.curvature import GGN, Curvature, Hessian
from upweight.errors import NegativeCurvatureError, NotConvergedWarning, warn
from upweight.forward import refuse_half
from upweight.inverse import CG, Dense
from upweight.objective import Objective

FACTORISED_UP_TO = 1500
"""p up to which a factorisation per step is cheaper than conjugate gradients."""
SUFFICIENT = 1e-4
ROUGHEST = 1e-3
"""Smallest relative residual of a Newton direction: below it the next gradient costs less than the last digits."""


def refuse_coarse(objective: Objective) -> None:
    """Refuse a model that runs in 16 bits, which no step near the minimum moves."""
    refuse_half(
        objective.model, "objective", "minimising it to a gradient tolerance needs more digits than 16 bits leave"
    )


def default_tolerance(dtype: torch.dtype) -> float:
    """‖∇R‖ that the precision can reach on data of ordinary scale."""
    return 1e-9 if dtype == torch.float64 else 1e-5


def checked_tolerance(objective: Objective, tolerance: Any) -> float:
    """‖∇R‖ to reach: what was asked for, else what the precision can."""
    refuse_coarse(objective)
    if tolerance is None:
        return default_tolerance(objective.dtype)
    return scalars.number("tolerance", tolerance, above=0)


def fit(objective: Objective, *, tolerance: float | None = None, max_iterations: int = 100) -> Objective:
    """The same objective with its model at the minimum; the given model is left as it is.

    Parameters
    ----------
    objective
        What is minimised, from its θ on; of a model in 16 bits it is refused.
    tolerance
        ‖∇R‖ to reach (default 1e-9 in float64, 1e-5 in float32); a warning says when it wasn't.
    max_iterations
        Newton steps at most (default 100).

    Warns
    -----
    NotConvergedWarning
        If ‖∇R‖ is above the tolerance at the end; says how far.

    Notes
    -----
    Newton steps with the Hessian where it is factorised and positive definite, else with the GGN, solved to a forcing
    term that falls with ‖∇R‖, and backtracking by Armijo's rule. A non-convex model reaches a local minimum at best.
    """
    kinds.check(fit, locals())
    goal = checked_tolerance(objective, tolerance)
    scalars.whole("max_iterations", max_iterations, 0)
    current, risk, gradient = objective, *_evaluate(objective)
    # The direction need not be exact: float32 halves the memory traffic of its products, and gradients stay exact.
    coarse = objective.to(torch.float32) if objective.is_linear and objective.p > FACTORISED_UP_TO else None
    for _ in range(max_iterations):
        norm = float(gradient.norm())
        if norm <= goal:
            break
        model = current if coarse is None else coarse.at(current.params.float())
        direction = -_newton(model, gradient / norm, max(min(0.1, norm**0.5), ROUGHEST)) * norm
        slope = float(direction @ gradient)
        length = 1.0
        while length > 1e-10:
            trial = objective.at(current.params + length * direction)
            trial_risk, trial_gradient = _evaluate(trial)
            # Near the optimum R is flat to rounding, and only the gradient can tell.
            rounding = 100 * torch.finfo(objective.dtype).eps * abs(risk)
            flat = abs(trial_risk - risk) <= rounding and float(trial_gradient.norm()) < 0.5 * norm
            if flat or trial_risk <= risk + SUFFICIENT * length * slope:
                break
            length /= 2
        else:
            break
        current, risk, gradient = trial, trial_risk, trial_gradient
    norm = float(gradient.norm())
    if not norm <= goal:
        warn(
            f"fit: ‖∇R‖ = {norm:.2e} after {max_iterations} Newton steps at most, tolerance {goal:.0e} not reached; "
            "with l2 = 0 separable classes have no optimum",
            NotConvergedWarning,
        )
    return current


def _evaluate(objective: Objective) -> tuple[float, Tensor]:
    risks, gradients = objective.risks_and_gradients(objective.params[None])
    return float(risks[0]), gradients[0]


def _newton(objective: Objective, gradient: Float[Tensor, " p"], accuracy: float) -> Float[Tensor, " p"]:
    """H⁻¹ ∇R to a relative residual, in the precision of the objective."""
    return _solve(objective, gradient.to(objective.dtype), accuracy).to(gradient.dtype)


def _solve(objective: Objective, gradient: Float[Tensor, " p"], accuracy: float) -> Float[Tensor, " p"]:
    if objective.p <= FACTORISED_UP_TO:
        # The Hessian converges faster where it is positive definite, the GGN always points downhill.
        choices: list[Curvature] = [Hessian()]
        if objective.engine.function.split and not objective.is_linear:
            choices.append(GGN())
        for curvature in choices:
            try:
                return Dense(curvature).fit(objective).solve(gradient[None]).x[0]
            except NegativeCurvatureError:
                continue  # or singular, e.g. no l2 and more parameters than examples: CG stays in the range
    operator = (GGN() if objective.engine.function.split else Hessian()).of(objective)
    # A little damping keeps CG from dividing by rounding along flat directions; the line search does the rest.
    scale = float((gradient @ operator.apply(gradient[None])[0]) / (gradient @ gradient))
    solver = CG(damping=1e-12 * max(scale, 0.0), tolerance=accuracy, max_iterations=500).fit(operator)
    return solver.solve(gradient[None]).x[0]
