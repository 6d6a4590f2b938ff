"""The proximal Bregman response function: what influence functions of a network predict, made by optimisation.

Bae et al. 2022, "If influence functions are the answer, then what is the question?", equation 6. With the Bregman
divergence of the loss in the outputs, D_i(f) = ℓ_i(f) − ℓ_i(f_s) − ⟨∇ℓ_i(f_s), f − f_s⟩ at the outputs f_s of the
trained θ_s, the response to weight ε on a group U of training examples is

    argmin_θ  Q(θ) + ε Σ_{i∈U} w_i ℓ_i(θ),   Q(θ) = (1/n) Σ_i w_i D_i(f_i(θ)) + ½ Σ_k (λ_k + δ)(θ_k − θ_s,k)².

Q is smallest at θ_s wherever training stopped, and ∇²Q(θ_s) = G + diag(λ) + δI, so that the ε-derivative at 0 is
−(G + λ + δI)⁻¹ Σ_U w_i ∇ℓ_i: the influence function with the GGN, exactly, without any optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight import kinds, scalars
from upweight.curvature import GGN
from upweight.data import Batch
from upweight.errors import InputError
from upweight.gradients import ExampleFunction, example_function
from upweight.gradients.substituted import substituted
from upweight.inverse import Solver
from upweight.inverse.damping import Damping, resolve
from upweight.losses import Loss, as_split
from upweight.objective import Objective
from upweight.retraining.counterfactual import Retrained, as_groups, checked_limits, preconditioner, retrain_all

ACCURACY = {torch.float64: 1e-9}
ACCURACY_OTHERWISE = 1e-3
"""‖∇‖ to reach over that at θ_s: about the relative error of the response."""


def pbrf(
    objective: Objective,
    indices: Sequence[Any] | Tensor,
    damping: Damping,
    epsilon: float | None = None,
    *,
    tolerance: float | None = None,
    solver: Solver | None = None,
    max_iterations: int = 200,
) -> Retrained:
    """The proximal Bregman responses to leaving examples out, or to any weight ε on them.

    Parameters
    ----------
    objective
        With θ_s as its trained θ, wherever its training stopped.
    indices
        As for `leave_out`: one position, or a list of positions that leave together, per model.
    damping
        δ of ½δ‖θ − θ_s‖², that of the influence function to be compared with.
    epsilon
        ε of the module's formula: weight added to the examples' losses (default −1/n: they are left out).
    tolerance
        ‖∇‖ of each model's own objective (default: 1e-9 of its value at θ_s in float64, 1e-3 in float32).
    solver
        A fitted inverse of the GGN to precondition with, in any precision (default: made here).
    max_iterations
        Of each minimisation (default 200); a warning says where ``tolerance`` was not reached.

    Returns
    -------
    θ of the response models in ``params``, ``[k, p]``, and ‖∇‖ of their own objectives in ``gradient_norms``.

    Raises
    ------
    InputError
        If the loss doesn't say what the model's outputs are, or a position is impossible.

    Notes
    -----
    The penalty ½Σλθ² pulls to θ_s like the damping, not to 0: at a θ_s that is no optimum its own pull is a part of
    ∇R that the response is to be free of, and so the curvature is that of the objective, G + λ + δI.

    The response of a network with kinks (ReLU) to a large change often lies at one. No gradient is small there, and
    the minimisation ends when its value stalls, with a warning that gives ‖∇‖.
    """
    kinds.check(pbrf, locals())
    checked_limits(tolerance, max_iterations)
    if epsilon is not None:
        scalars.number("epsilon", epsilon)
    groups = as_groups(objective, indices)
    if not groups:
        raise InputError("indices: give at least one position, or group of positions, to leave out")
    loss = as_split(objective.loss)
    delta = resolve(damping, GGN().of(objective))
    response = _Response.of(objective, loss, delta, -1 / objective.n if epsilon is None else epsilon)
    accuracy = ACCURACY.get(objective.dtype, ACCURACY_OTHERWISE)
    return retrain_all(
        objective,
        [_Group(objective.data.take(group), objective.weights[group]) for group in groups],
        response.evaluate,
        lambda norms: accuracy * norms if tolerance is None else torch.full_like(norms, tolerance),
        lambda: solver or preconditioner(objective, delta),
        max_iterations,
    )


@dataclass(frozen=True)
class _Bregman:
    """D_i + const = ℓ_i(f) − ⟨∇ℓ_i(f_s), f⟩ as a function of the outputs; batches are (batch, ∇ℓ(f_s))."""

    loss: Loss

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.loss.outputs(model, batch[0])

    def of_outputs(self, outputs: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
        own, slopes = batch
        return self.loss.of_outputs(outputs, own) - (slopes * outputs).reshape(len(outputs), -1).sum(1)

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " batch"]:
        return self.of_outputs(self.outputs(model, batch), batch)


@dataclass(frozen=True)
class _Group:
    """The examples that a weight is put on."""

    examples: Batch
    weights: Float[Tensor, " u"]


@dataclass(frozen=True)
class _Response:
    """Q + ε Σ_U w_i ℓ_i up to a constant, and its gradient, at many θ."""

    objective: Objective
    divergence: ExampleFunction
    slopes: tuple[Tensor, ...]
    """∇ℓ_i at the outputs of θ_s, batch by batch of the training data."""
    stiffness: Float[Tensor, " p"]
    """λ + δ."""
    epsilon: float

    @classmethod
    def of(cls, objective: Objective, loss: Loss, damping: float, epsilon: float) -> _Response:
        """Fix the outputs of the trained θ_s."""
        slopes = tuple(_slopes(objective, loss, batch) for _, batch in objective.batches())
        example = (objective.data.take([0]), slopes[0][:1])
        divergence = example_function(objective.model, _Bregman(loss), objective.layout, objective.params, example)
        return cls(objective, divergence, slopes, objective.l2 + damping, epsilon)

    def evaluate(
        self, params: Float[Tensor, "k p"], groups: Sequence[_Group], shared: bool
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        """Value and gradient for each group at its own θ; ``shared``: all are θ_s, where ∇Q = 0."""
        values, grads = self._divergences(params[:1] if shared else params)
        if shared:
            values, grads = values.repeat(len(params)), torch.zeros_like(params)
        step = params - self.objective.params
        values = values + 0.5 * (self.stiffness * step**2).sum(1)
        grads = grads + self.stiffness * step
        for j, (theta, group) in enumerate(zip(params, groups, strict=True)):
            value, gradient = self.objective.engine.function.gradient(theta, group.examples, group.weights)
            values[j] += self.epsilon * value
            grads[j] += self.epsilon * gradient
        return values, grads

    def _divergences(self, params: Float[Tensor, "k p"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        objective = self.objective
        values, grads = params.new_zeros(len(params)), torch.zeros_like(params)
        for (index, batch), slopes in zip(objective.batches(), self.slopes, strict=True):
            totals, sums = self.divergence.gradients(params, (batch, slopes), objective.weights[index])
            values += totals
            grads += sums
        return values / objective.n, grads / objective.n


def _slopes(objective: Objective, loss: Loss, batch: Batch) -> Tensor:
    """∇ℓ_i with respect to the outputs, at those of θ_s."""
    with torch.no_grad():
        outputs = substituted(objective.model, loss.outputs)(objective.layout.unflatten(objective.params), batch)
    with torch.enable_grad():
        point = outputs.requires_grad_()
        (slopes,) = torch.autograd.grad(loss.of_outputs(point, batch).sum(), point)
    return slopes
