"""L-BFGS for many convex problems at once, preconditioned by a shared factorisation.

With (H+δI)⁻¹ of the full data as initial inverse Hessian, the first step of each problem is the influence
function's own prediction, and the secant pairs learn the little that the counterfactual's curvature differs
by (Nocedal & Wright 2006, algorithm 7.4). A handful of passes over the data serve hundreds of models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

HISTORY = 8
SUFFICIENT = 1e-4
SHORTEST = 1e-8

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(parameters [k, p], numbers of the problems [k]) -> values [k], gradients [k, p]."""


@dataclass(frozen=True)
class Minimum:
    """Where each problem ended: θ ``[k, p]``, ‖gradient‖ ``[k]``, evaluations ``[k]``."""

    params: Float[Tensor, "k p"]
    gradient_norms: Float[Tensor, " k"]
    evaluations: Int[Tensor, " k"]


def minimise(
    evaluate: Evaluate,
    start: Float[Tensor, "k p"],
    at_start: tuple[Tensor, Tensor],
    precondition: Callable[[Tensor], Tensor],
    tolerance: float,
    max_iterations: int,
) -> Minimum:
    """Minimise k problems together; each leaves the pass when its gradient norm is below ``tolerance``.

    ``at_start`` are the values and gradients at ``start``.
    """
    theta = start.clone()
    problems = torch.arange(len(start))
    values, grads = at_start
    norms = grads.norm(dim=1)
    evaluations = torch.zeros(len(start), dtype=torch.long)
    rows = problems[(norms > tolerance).cpu()]
    value, grad = values[rows], grads[rows]
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    direction, length = -precondition(grad), torch.ones(len(rows), dtype=grad.dtype, device=grad.device)
    for _ in range(max_iterations):
        if not len(rows):
            break
        slope = (direction * grad).sum(1)
        trial = theta[rows] + length[:, None] * direction
        trial_value, trial_grad = evaluate(trial, rows)
        evaluations[rows] += 1
        trial_norm = trial_grad.norm(dim=1)
        # Near the optimum values are equal to rounding, and only the gradient can tell.
        rounding = 100 * torch.finfo(value.dtype).eps * value.abs()
        flat = ((trial_value - value).abs() <= rounding) & (trial_norm < 0.5 * grad.norm(dim=1))
        accepted = flat | (trial_value <= value + SUFFICIENT * length * slope)
        accepted |= length < SHORTEST
        moved = torch.where(accepted[:, None], trial, theta[rows])
        step, change = moved - theta[rows], torch.where(accepted[:, None], trial_grad - grad, 0.0)
        theta[rows] = moved
        grad = torch.where(accepted[:, None], trial_grad, grad)
        value = torch.where(accepted, trial_value, value)
        norms[rows] = grad.norm(dim=1)
        products = (step * change).sum(1)
        # A pair without positive curvature (a rejected step, rounding) is marked by an infinite product and ignored.
        usable = products > torch.finfo(grad.dtype).eps * step.norm(dim=1) * change.norm(dim=1)
        pairs = [*pairs[-HISTORY + 1 :], (step, change, torch.where(usable, products, torch.inf))]
        keep = (norms[rows] > tolerance) & (length >= SHORTEST)
        length = torch.where(accepted, 1.0, length / 2)
        if not keep.all():
            rows, grad, value, length = rows[keep.cpu()], grad[keep], value[keep], length[keep]
            direction, accepted = direction[keep], accepted[keep]
            pairs = [(s[keep], y[keep], sy[keep]) for s, y, sy in pairs]
        fresh = -_two_loops(grad, pairs, precondition)
        direction = torch.where(accepted[:, None], fresh, direction)
    return Minimum(theta, norms, evaluations)


def _two_loops(
    gradient: Float[Tensor, "k p"],
    pairs: list[tuple[Tensor, Tensor, Tensor]],
    precondition: Callable[[Tensor], Tensor],
) -> Float[Tensor, "k p"]:
    """Product of the L-BFGS inverse Hessian with the gradients."""
    q = gradient.clone()
    alphas = []
    for step, change, product in reversed(pairs):
        alpha = (step * q).sum(1) / product
        q = q - alpha[:, None] * change
        alphas.append(alpha)
    r = precondition(q)
    for (step, change, product), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = (change * r).sum(1) / product
        r = r + (alpha - beta)[:, None] * step
    return r
