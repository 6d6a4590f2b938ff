"""Hessian and GGN of an objective, matrix-free and dense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight import kinds
from upweight.curvature.assembled import assembled
from upweight.curvature.operators import OfObjective, Operator, refuse_other_rows
from upweight.curvature.rows import Rows, spectral
from upweight.engine.kinks import refuse_no_second_derivative
from upweight.errors import InputError
from upweight.gradients import ExampleFunction, LinearFunction, OutputCurvature
from upweight.gradients.autograd import VECTORS_AT_ONCE
from upweight.kept import parts
from upweight.losses import Loss
from upweight.objective import Objective


@runtime_checkable
class Curvature(Protocol):
    """Which matrix: a choice that becomes an operator when it meets an objective."""

    @property
    def name(self) -> str:
        """The matrix in words."""
        ...

    def of(self, objective: Objective) -> Operator:
        """The operator for this objective."""
        ...


@runtime_checkable
class RowCurvature(Curvature, Protocol):
    """A curvature that can be given by rows, as AᵀA + diag(λ)."""

    def rows(self, objective: Objective, largest: int | None = None) -> Rows:
        """The rows; where they are eigenvectors, the ``largest`` of them."""
        ...


TWICE, BY_VECTOR = 3.5, {"Hessian": 2.0, "GGN": 0.5}
"""Multiples of the activations that a product holds, and of those for each vector, on a transformer; others less."""
CONVOLVED = 1.4
"""Of the GGN's for each vector, where there are convolutions: their inputs are written out for each."""
LINEAR_ROWS = 1024
"""Examples per matrix product where features are held in memory: a block that stays in cache is read once."""


def product_numbers(objective: Objective, name: str, vectors: int) -> int:
    """Numbers of each example that a product with so many vectors holds."""
    convolved = any(isinstance(part, nn.modules.conv._ConvNd) for part in parts(objective.model))
    each = max(BY_VECTOR[name], CONVOLVED if convolved else 0)
    held = TWICE + each * min(vectors, VECTORS_AT_ONCE)
    return int(held * objective.engine.activations)


@dataclass(frozen=True)
class Hessian:
    """∇²R(θ) = (1/n) Σ w_i ∇²ℓ_i + diag(λ). Indefinite away from an optimum of a non-convex model."""

    name = "Hessian"

    def of(self, objective: Objective) -> ObjectiveCurvature:
        """The Hessian of this objective."""
        kinds.check(Hessian.of, locals())
        return ObjectiveCurvature(objective, self.name)


@dataclass(frozen=True)
class GGN:
    """Generalised Gauss–Newton (1/n) Σ w_i J_iᵀ ∇²ℓ_i(outputs) J_i + diag(λ).

    Positive semi-definite for convex losses of the outputs; equal to the Hessian where outputs are linear in θ.
    """

    name = "GGN"

    def of(self, objective: Objective) -> ObjectiveCurvature:
        """The GGN of this objective.

        Raises
        ------
        InputError
            If the loss isn't split into outputs and a loss of outputs: a user's function of the whole has no GGN.
        """
        kinds.check(GGN.of, locals())
        if not objective.engine.function.split:
            raise InputError(
                "curvature: the GGN needs a loss with the split (outputs, loss of outputs), one of upweight.losses; "
                "with your own function use curvature.Hessian()"
            )
        return ObjectiveCurvature(objective, self.name)

    def rows(self, objective: Objective, largest: int | None = None) -> Rows:
        """Eigenvectors of the loss's Hessian in the outputs, the ``largest`` first (default: all)."""
        self.of(objective)
        return spectral(objective, largest)


@dataclass(frozen=True, eq=False)
class ObjectiveCurvature(OfObjective):
    """A curvature matrix of an objective as an operator.

    Attributes
    ----------
    objective
        Of whose risk it is the curvature, at its trained θ.
    name
        Which matrix: ``Hessian`` or ``GGN``.
    indices
        The examples summed over (default: all).
    scale
        Each example counts w_i · ``scale``; 1/n of the objective unless said otherwise.
    penalized
        Whether diag(λ) is added.
    """

    objective: Objective
    name: str
    indices: Tensor | None = None
    scale: float | None = None
    penalized: bool = True

    @property
    def examples(self) -> int:
        """Number of examples summed over."""
        return self.objective.n if self.indices is None else len(self.indices)

    @property
    def is_positive(self) -> bool:
        """Whether no eigenvalue can be negative: the loss is convex in outputs, and these are linear in θ or taken so.

        What comes out below zero is rounding then.
        """
        loss = self.objective.loss
        convex = isinstance(loss, Loss) and loss.is_convex
        return convex and (self.name == GGN.name or self.objective.is_linear)

    def in_double(self) -> ObjectiveCurvature:
        """The same matrix in float64."""
        return replace(self, objective=self.objective.to(torch.float64))

    def share(self, indices: Any) -> ObjectiveCurvature:
        """The part of the matrix that these examples contribute: (1/n) Σ_U w_i H_i, without the penalty."""
        return replace(self, indices=self.objective.positions(indices), scale=1 / self.objective.n, penalized=False)

    def sampled(self, indices: Tensor) -> ObjectiveCurvature:
        """An estimate of the matrix from these examples: their mean, with the penalty."""
        return replace(self, indices=indices, scale=1 / len(indices), penalized=True)

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Product with k vectors, given as rows; one pass over the examples."""
        kinds.check(ObjectiveCurvature.apply, locals())
        objective, function, linear = self.objective, *self._functions
        refuse_other_rows(vectors, self.size)
        total = torch.zeros_like(vectors)
        if linear is not None:
            for features, curvature in self._linear_blocks(linear):
                total += linear.product(features, curvature, vectors)
        else:
            product = function.hessian_product if self.name == Hessian.name else function.ggn_product
            rows = objective.engine.rows_of(product_numbers(objective, self.name, len(vectors)))
            for index, batch in objective.data.batches(self.indices, rows):
                total += product(objective.params, batch, objective.problem.weights_at(index), vectors)
        if not torch.isfinite(total).all() and torch.isfinite(vectors).all():
            refuse_no_second_derivative(objective.engine, self.indices, self.name)
        total *= self.factor
        return total + objective.l2 * vectors if self.penalized else total

    @property
    def _functions(self) -> tuple[ExampleFunction, LinearFunction | None]:
        """The loss with its derivatives, and the same where its outputs are linear in θ."""
        function = self.objective.engine.function
        return function, function.linear

    @property
    def factor(self) -> float:
        """What w_i is multiplied by."""
        return 1 / self.objective.n if self.scale is None else self.scale

    def _linear_blocks(self, function: LinearFunction) -> Iterator[tuple[Tensor, OutputCurvature]]:
        """Features and weighted output curvatures of the examples, in blocks of rows; none of no examples."""
        objective = self.objective
        if not self.examples:
            return
        factors = objective.engine.linear_factors
        if factors is not None:
            every = slice(None) if self.indices is None else self.indices
            features, curvatures = factors.features[every], factors.curvatures.take(every)
            yield from zip(features.split(LINEAR_ROWS), curvatures.split(LINEAR_ROWS), strict=True)
            return
        for index, batch in objective.data.batches(self.indices, objective.engine.rows):
            features, _, curvature = function.output_curvature(objective.params, batch)
            yield features, curvature.weighted(objective.problem.weights_at(index))

    def dense(self) -> Float[Tensor, "p p"]:
        """The matrix: from factors where the outputs are linear in θ, else from the Jacobian's rows or p products."""
        _, linear = self._functions
        if linear is not None:
            matrix = self._dense_linear(linear)
            if self.penalized:
                matrix.diagonal().add_(self.objective.l2)
            return matrix
        return assembled(self)

    def _dense_linear(self, function: LinearFunction) -> Tensor:
        c, d = function.outputs_count, function.features_count
        scaled = ((features, curvature.weighted(self.factor)) for features, curvature in self._linear_blocks(function))
        factors, used = self.objective.engine.linear_factors, torch.arange(d, device=self.device)
        if factors is not None:
            low, high = factors.features.aminmax(dim=0)
            used = ((low != 0) | (high != 0)).nonzero().flatten()
        matrix = function.dense(scaled, used).reshape(c * d, c * d)
        order = function.order().to(self.device)
        # With no bias θ is the flattened matrix already, and a copy of p² numbers is saved.
        return matrix if torch.equal(order, torch.arange(len(order))) else matrix[order][:, order]
