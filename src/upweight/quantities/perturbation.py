"""I_pert,loss: how the query's measurement answers to a change of a training input (Koh & Liang 2017, eq. 5)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from upweight import scalars
from upweight.attribution import Quantity
from upweight.data import Batch
from upweight.errors import InputError
from upweight.gradients.substituted import substituted
from upweight.objective import Objective


@dataclass(frozen=True)
class Perturbation:
    """Gradient of the query's measurement with respect to a training input, at unit weight ε.

    Attributes
    ----------
    gradient
        I_pert,loss(z, q)ᵀ = −∇ₓ[∇L_qᵀ(H+δI)⁻¹∇_θℓ(z)], in the shape of the input.
    n
        Number of training examples: moving the input by d changes the measurement by about ⟨gradient, d⟩/n.
    """

    gradient: Float[Tensor, "*input"]
    quantity: Quantity
    n: int

    def predicted_change(self, change: Float[Tensor, "*input"]) -> float:
        """Predicted change of the query's measurement when ``change`` is added to the training input."""
        return float((self.gradient * change).sum() / self.n)


def perturbation(objective: Objective, direction: Float[Tensor, " p"], index: int, wrt: Any, unit: str) -> Perturbation:
    """Differentiate −⟨s_q, ∇_θℓ(z)⟩ by the input of z: two backward passes, whatever p and n.

    Raises
    ------
    InputError
        If the example has no floating-point input to differentiate by.
    """
    position = objective.positions([index])
    batch = objective.data.take(position)
    weights = objective.weights[position]
    gradient = input_gradients(objective, objective.params, direction, batch, weights, input_key(batch, wrt))
    quantity = Quantity(
        name="perturbation",
        words="gradient of the query's measurement with respect to this training input, for unit weight ε; "
        "1/n of it per unit of input is the predicted change",
        unit=f"{unit} per unit of input",
        positive="raising the input there raises the measurement",
        helpful_sign=0,
    )
    return Perturbation(gradient[0], quantity, objective.n)


def input_gradients(
    objective: Objective,
    params: Float[Tensor, " p"],
    direction: Float[Tensor, " p"],
    batch: Batch,
    weights: Float[Tensor, " batch"],
    key: Any,
) -> Float[Tensor, " batch *input"]:
    """−∇ₓ[⟨direction, w ∇_θℓ⟩] of each example of a batch at θ = ``params``: two backward passes for all of them.

    With s_q for ``direction`` this is I_pert,loss(z, q) of eq. 5; ``key`` says which tensor of the batch is x.
    """
    point = batch[key].detach().requires_grad_()
    moved = with_input(batch, key, point)
    evaluate = substituted(objective.model, objective.loss)
    layout = objective.layout
    with torch.enable_grad():
        leaves = {name: v.detach().requires_grad_() for name, v in layout.unflatten(params).items()}
        total = (weights * evaluate(leaves, moved)).sum()
        grads = torch.autograd.grad(
            total, list(leaves.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
        product = sum((g * s).sum() for g, s in zip(grads, layout.unflatten(direction).values(), strict=True))
        assert isinstance(product, Tensor)
        (gradient,) = torch.autograd.grad(product, point, allow_unused=True, materialize_grads=True)
    return -gradient.detach()


def with_input(batch: Batch, key: Any, value: Tensor) -> Batch:
    """The same batch with another tensor under ``key``."""
    if isinstance(batch, dict):
        return {**batch, key: value}
    return tuple(value if i == key else other for i, other in enumerate(batch))


def input_key(batch: Batch, wrt: Any) -> Any:
    """Where the input stands in a batch: ``wrt``, or its first floating-point tensor."""
    items = (
        list(batch.items())
        if isinstance(batch, dict)
        else list(enumerate(batch))
        if isinstance(batch, tuple | list)
        else []
    )
    floating = [key for key, value in items if isinstance(value, Tensor) and value.is_floating_point()]
    if wrt is None and floating:
        return floating[0]
    if isinstance(wrt, Hashable) and not isinstance(wrt, Tensor) and wrt in floating:
        return wrt
    raise InputError(f"wrt: {scalars.shown(wrt)} names no floating-point tensor of the batch; those are {floating}")
