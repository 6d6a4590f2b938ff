"""Newton's method for many models at once, each without one training example, where outputs are linear in θ.

Model i minimises R(θ) − w_i ℓ_i(θ)/n + ½δ‖θ − θ̂‖². Its steps are halved until this falls, so that they lead to the
minimum wherever the loss is convex in the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from upweight.data import Batch
from upweight.gradients import LinearFunction, Whole
from upweight.objective import Objective

SUFFICIENT = 1e-4
SHORTEST = 2.0**-20


@dataclass(frozen=True, eq=False)
class Walk:
    """The models without each of ``members``, in the objective's own precision."""

    objective: Objective
    function: LinearFunction
    members: Int[Tensor, " k"]
    damping: float

    def down(
        self, steps: Float[Tensor, "k p"], limit: int, settled: float
    ) -> tuple[Float[Tensor, "k p"], Float[Tensor, " k"]]:
        """Up to ``limit`` Newton steps from θ̂ + ``steps``: the ways from θ̂, and how far each would still go.

        The latter is the size of the step that comes next beside the whole way, in the norm of the curvature; a model
        stops once it is below ``settled``, and counts as infinitely far from a minimum that isn't unique.
        """
        found = steps.clone()
        left = torch.full_like(found[:, 0], torch.inf)
        live = torch.arange(len(found), device=found.device)
        for number in range(limit + 1):
            values, slopes, directions, shares = self._newton(found[live], live)
            left[live] = shares
            going = torch.isfinite(shares) & (shares > settled)
            if number == limit or not going.any():
                break
            live, values, slopes, directions = live[going], values[going], slopes[going], directions[going]
            found[live] += self._lengths(found[live], live, values, directions, slopes)[:, None] * directions
        return found, left

    def _newton(
        self, steps: Float[Tensor, "k p"], rows: Int[Tensor, " k"]
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"], Float[Tensor, "k p"], Float[Tensor, " k"]]:
        """Risks, slopes along −H⁻¹∇, these directions, and their sizes beside the way so far.

        A size is infinite where H isn't positive definite.
        """
        function, l2 = self.function, self.objective.l2
        values = self._penalties(steps)
        gradients = l2 * (self.objective.params + steps) + self.damping * steps
        curvatures: list[list[tuple[Tensor, Whole]]] = [[] for _ in rows]
        for a, weights, batch, z in self._outputs(steps, rows):
            with torch.enable_grad():
                point = z.requires_grad_()
                losses = self._losses(point, batch)
                (slope,) = torch.autograd.grad(losses.sum(), point, create_graph=True)
                curved = [_derivative(slope[..., c].sum(), point) for c in range(function.outputs_count)]
            values += (weights * losses.detach()).sum(1)
            pulled = weights[:, :, None] * slope.detach()
            gradients += function.vector(pulled.mT @ a)
            weighted = weights[:, :, None, None] * torch.stack(curved, dim=-1)
            for row, parts in enumerate(curvatures):
                parts.append((a, Whole(weighted[row])))
        directions, shares = torch.zeros_like(steps), torch.full_like(values, torch.inf)
        for row, parts in enumerate(curvatures):
            matrix = self._dense(parts)
            found = _solved(matrix, -gradients[row])
            if found is not None:
                directions[row] = found
                ways = torch.stack([found, steps[row] + found])
                size, whole = ((ways @ matrix) * ways).sum(1).clamp_min(0).sqrt()
                shares[row] = size / whole if size > 0 else size
        return values, (gradients * directions).sum(1), directions, shares

    def _dense(self, parts: list[tuple[Tensor, Whole]]) -> Float[Tensor, "p p"]:
        function = self.function
        size = function.features_count * function.outputs_count
        used = torch.arange(function.features_count, device=self.objective.device)
        matrix = function.dense(iter(parts), used).reshape(size, size)[self._order][:, self._order]
        matrix.diagonal().add_(self.objective.l2 + self.damping)
        return matrix

    def _outputs(
        self, steps: Float[Tensor, "k p"], rows: Int[Tensor, " k"]
    ) -> Iterator[tuple[Tensor, Float[Tensor, "k batch"], Batch, Float[Tensor, "k batch c"]]]:
        """Features, each model's weights w/n, and each model's outputs, batch by batch."""
        members, theta = self.members[rows.cpu()], self.objective.params + steps
        for index, batch, a in self._batches:
            kept = index[None] != members[:, None]
            weights = kept.to(a) * self.objective.weights[index] / self.objective.n
            yield a, weights, batch, torch.stack([self.function.outputs(each, a) for each in theta])

    def _losses(self, outputs: Float[Tensor, "k batch c"], batch: Batch) -> Float[Tensor, "k batch"]:
        loss: Any = self.objective.loss
        return torch.vmap(lambda z: loss.of_outputs(z, batch))(outputs)

    def _penalties(self, steps: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
        return self.objective.penalty(self.objective.params + steps) + self.damping / 2 * (steps**2).sum(1)

    @cached_property
    def _batches(self) -> list[tuple[Tensor, Batch, Tensor]]:
        objective = self.objective
        return [(index, batch, self.function.features(batch, objective.dtype)) for index, batch in objective.batches()]

    @cached_property
    def _order(self) -> Tensor:
        return self.function.order().to(self.objective.device)

    def _lengths(
        self,
        steps: Float[Tensor, "k p"],
        rows: Int[Tensor, " k"],
        values: Float[Tensor, " k"],
        directions: Float[Tensor, "k p"],
        slopes: Float[Tensor, " k"],
    ) -> Float[Tensor, " k"]:
        """Armijo's rule: 1, halved until the risk falls by a share of what its slope promises."""
        lengths = torch.ones_like(values)
        trying: Bool[Tensor, " k"] = torch.ones_like(values, dtype=torch.bool)
        rounding = 100 * torch.finfo(values.dtype).eps * values.abs()
        while trying.any():
            at = trying.nonzero().flatten()
            there = steps[at] + lengths[at, None] * directions[at]
            found = self._penalties(there)
            for _, weights, batch, z in self._outputs(there, rows[at]):
                found += (weights * self._losses(z, batch)).sum(1)
            fallen = found <= values[at] + SUFFICIENT * lengths[at] * slopes[at] + rounding[at]
            lengths[at[~fallen]] /= 2
            trying[at] = ~fallen & (lengths[at] >= SHORTEST)
        return lengths


def _derivative(value: Tensor, point: Tensor) -> Tensor:
    """∂value/∂point; zero where the value doesn't depend on it, as slopes of a piecewise linear loss don't."""
    if not value.requires_grad:
        return torch.zeros_like(point)
    (found,) = torch.autograd.grad(value, point, retain_graph=True, allow_unused=True)
    return torch.zeros_like(point) if found is None else found.detach()


def _solved(matrix: Float[Tensor, "p p"], vector: Float[Tensor, " p"]) -> Float[Tensor, " p"] | None:
    """H⁻¹ of a vector by Cholesky's factor at unit diagonal; None where H isn't positive definite."""
    scale = matrix.diagonal().clamp_min(torch.finfo(matrix.dtype).tiny).rsqrt()
    factor, failed = torch.linalg.cholesky_ex(scale[:, None] * matrix * scale)
    if int(failed):
        return None
    return scale * torch.cholesky_solve((scale * vector)[:, None], factor)[:, 0]
