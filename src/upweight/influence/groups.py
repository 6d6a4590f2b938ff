"""Steps of θ̂ when a whole group is left out: first order, second order, one Newton step.

Two conventions (spec: oracles 1 and 15). Weights stay 1/n: H' = H − H_U with H_U = (1/n) Σ_U H_i. Mean over the
n−u left: H' = H + q(H − H̄_U), q = u/(n−u), H̄_U and the gradients with the penalty in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.curvature import Difference, ObjectiveCurvature
from upweight.inverse import CG, warned
from upweight.messages import InputError

if TYPE_CHECKING:
    from upweight.influence.influence import Influence


def step(
    influence: Influence, members: Tensor, order: Literal["first", "second", "newton"], renormalize: bool
) -> Float[Tensor, "1 p"]:
    """Predicted θ̂(without the group) − θ̂."""
    if order not in ("first", "second", "newton"):
        raise InputError(f"order: 'first', 'second' or 'newton'; got {order!r}")
    objective, solver = influence.objective, influence.solver
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
    first = influence.solve(pull[None]).x
    if order == "first":
        return first
    operator = solver.operator
    if not isinstance(operator, ObjectiveCurvature):
        raise InputError("inverse: orders 'second' and 'newton' need an inverse fitted to the objective")
    share = operator.share(members)
    removed = _Removed(operator, share, u / (n - u) if renormalize else None)
    if order == "second":
        return first + influence.solve(removed.apply(first)).x
    tolerance = 1e-12 if objective.dtype == torch.float64 else 1e-6
    newton = CG(damping=solver.damping, preconditioner=solver, tolerance=tolerance)
    return warned(newton.fit(Difference(operator, removed)).solve(pull[None])).x


class _Removed:
    """E with H' = H − E: the curvature that goes with the group, in either convention."""

    def __init__(self, whole: ObjectiveCurvature, share: ObjectiveCurvature, ratio: float | None):
        self.whole, self.share, self.ratio = whole, share, ratio
        self.size, self.dtype, self.device = whole.size, whole.dtype, whole.device

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        part = self.share.apply(vectors)
        if self.ratio is None:
            return part
        objective = self.share.objective
        mean = part * (objective.n / self.share.examples) + objective.l2 * vectors
        return self.ratio * (mean - self.whole.apply(vectors))

    def dense(self) -> Float[Tensor, "p p"]:
        return self.apply(torch.eye(self.size, dtype=self.dtype, device=self.device))
