"""L-BFGS for many problems at once, preconditioned by one matrix (Nocedal & Wright 2006, algorithm 7.4).

With an inverse that is near all of their inverse Hessians to begin with, the first step is nearly Newton's, and the
secant pairs learn the little that each problem's curvature differs by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

HISTORY = 8
SUFFICIENT = 1e-4
SHORTEST = 1e-8
PATIENCE = 20
STALLED = 1e-3
"""A problem that in ``PATIENCE`` evaluations neither falls by this share of its whole descent nor halves its gradient
has stalled: at a kink of the model (ReLU) the gradient has no zero to reach."""

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
    tolerances: Float[Tensor, " k"],
    max_iterations: int,
) -> Minimum:
    """Minimise k problems together; each leaves the pass when its gradient norm is below its tolerance, or it stalls.

    ``at_start`` are the values and gradients at ``start``.
    """
    theta = start.clone()
    problems = torch.arange(len(start))
    values, grads = at_start
    norms = grads.norm(dim=1)
    evaluations = torch.zeros(len(start), dtype=torch.long)
    progress = _Progress(values, norms)
    rows = problems[(norms > tolerances).cpu()]
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
        # Near the optimum values are equal to rounding, and only slopes can tell: the mean of those at both ends is
        # the decrease of a quadratic (the approximate Wolfe condition of Hager & Zhang 2005, eq. 4.1).
        rounding = 100 * torch.finfo(value.dtype).eps * value.abs()
        downhill = (direction * trial_grad).sum(1) <= (2 * SUFFICIENT - 1) * slope
        flat = ((trial_value - value).abs() <= rounding) & downhill
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
        keep = (norms[rows] > tolerances[rows]) & (length >= SHORTEST) & ~progress.stalled(rows, value, norms[rows])
        length = torch.where(accepted, 1.0, length / 2)
        if not keep.all():
            rows, grad, value, length = rows[keep.cpu()], grad[keep], value[keep], length[keep]
            direction, accepted = direction[keep], accepted[keep]
            pairs = [(s[keep], y[keep], sy[keep]) for s, y, sy in pairs]
        fresh = -_two_loops(grad, pairs, precondition)
        direction = torch.where(accepted[:, None], fresh, direction)
    return Minimum(theta, norms, evaluations)


class _Progress:
    """How far each problem has come since it was last asked."""

    def __init__(self, values: Float[Tensor, " k"], norms: Float[Tensor, " k"]):
        self.first, self.value = values.clone(), values.clone()
        self.norm, self.smallest = norms.clone(), norms.clone()
        self.count = 0

    def stalled(
        self, rows: Int[Tensor, " live"], value: Float[Tensor, " live"], norm: Float[Tensor, " live"]
    ) -> Bool[Tensor, " live"]:
        """Which of the problems still looked at came no further in the last ``PATIENCE`` calls."""
        self.count += 1
        self.smallest[rows] = torch.minimum(self.smallest[rows], norm)
        if self.count % PATIENCE:
            return torch.zeros_like(value, dtype=torch.bool)
        falls = self.value[rows] - value > STALLED * (self.first[rows] - value)
        halved = self.smallest[rows] < 0.5 * self.norm[rows]
        self.value[rows], self.norm[rows] = value, self.smallest[rows]
        return ~(falls | halved)


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
