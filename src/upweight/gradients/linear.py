"""Per-example derivatives where the outputs are linear in θ: z = W a + b with fixed features a.

Logistic and softmax regression, ridge, linear SVMs, and a trained last layer on frozen features. The
gradient of example i is the outer product r_i ⊗ a_i (r = ∂f/∂z, a with a 1 appended for the bias), and
everything below works on these factors. A θ-vector is used here as a matrix ``[outputs, features]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from upweight.data import Batch, tensors
from upweight.gradients.autograd import output_derivatives
from upweight.gradients.blocks import Block, Cotangents, Gradients, Shape
from upweight.gradients.output_curvature import (
    MANY,
    TILES,
    OutputCurvature,
    Softmax,
    Whole,
    is_softmax,
    joined,
    softmax_dense,
    softmax_of,
)
from upweight.gradients.plan import Plan
from upweight.gradients.substituted import called
from upweight.gradients.terms import Outer
from upweight.gradients.workspace import rows_at_once
from upweight.parameters import Layout


@dataclass(frozen=True)
class LinearFactors:
    """What all derivatives at one θ are made of: features, output gradients and output curvatures."""

    features: Float[Tensor, "n d"]
    slopes: Float[Tensor, "n c"]
    curvatures: OutputCurvature

    @classmethod
    def joined(cls, parts: Sequence[LinearFactors]) -> LinearFactors:
        """Several batches as one."""
        if len(parts) == 1:
            return parts[0]
        features, slopes = (torch.cat([getattr(part, name) for part in parts]) for name in ("features", "slopes"))
        return cls(features, slopes, joined([part.curvatures for part in parts]))


class LinearFunction:
    """Derivatives of a split per-example value of a linear last layer."""

    factored = True

    def __init__(self, prefix: nn.Module, layer: nn.Linear, function: Any, layout: Layout):
        self.layout = layout
        self.split = True
        self._prefix = prefix
        self._function = function
        self._bias_fixed = layer.bias.detach() if layer.bias is not None and len(layout.names) == 1 else None
        self._bias_learned = len(layout.names) == 2
        self.outputs_count = layer.out_features
        self.features_count = layer.in_features + self._bias_learned
        self.by_softmax = self.outputs_count >= MANY and is_softmax(function)
        """Whether the curvature in the outputs is known by products, in a number a class."""
        weight, *bias = layout.names
        shape = Shape(weight, bias[0] if bias else None, self.outputs_count, self.features_count)
        self.plan = Plan((shape,))

    @property
    def linear(self) -> LinearFunction:
        """Itself."""
        return self

    @property
    def factors(self) -> int:
        """Numbers of an example's factors: features and slopes."""
        return self.outputs_count + self.features_count

    @property
    def curvature_numbers(self) -> int:
        """Numbers that an example's curvature in the outputs holds."""
        return self.outputs_count if self.by_softmax else self.outputs_count**2

    def features(self, batch: Batch, dtype: torch.dtype) -> Float[Tensor, "batch d"]:
        """Inputs of the linear layer, with a 1 appended where its bias is part of θ."""
        a = called(self._prefix, self._function.outputs, batch).to(dtype)
        return torch.cat([a, a.new_ones(a.shape[0], 1)], dim=1) if self._bias_learned else a

    def matrix(self, vectors: Float[Tensor, "*k p"]) -> Float[Tensor, "*k c d"]:
        """θ-vectors as matrices [outputs, features], the bias as last column."""
        named = list(self.layout.unflatten(vectors).values())
        return torch.cat([named[0], named[1].unsqueeze(-1)], dim=-1) if self._bias_learned else named[0]

    def vector(self, matrices: Float[Tensor, "*k c d"]) -> Float[Tensor, "*k p"]:
        """Matrices [outputs, features] as θ-vectors."""
        if not self._bias_learned:
            return matrices.flatten(-2)
        return torch.cat([matrices[..., :-1].flatten(-2), matrices[..., -1]], dim=-1)

    def outputs(self, params: Float[Tensor, " p"], a: Float[Tensor, "batch d"]) -> Float[Tensor, "batch c"]:
        """W a + b from features."""
        z = a @ self.matrix(params).mT
        return z if self._bias_fixed is None else z + self._bias_fixed.to(z.dtype)

    def values(self, params: Float[Tensor, " p"], batch: Batch) -> Float[Tensor, " batch"]:
        """f_i(θ)."""
        with torch.no_grad():
            return self._function.of_outputs(self.outputs(params, self.features(batch, params.dtype)), batch)

    def gradient(
        self, params: Float[Tensor, " p"], batch: Batch, weights: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " p"]]:
        """Σ w_i f_i and its gradient."""
        totals, grads = self.gradients(params[None], batch, weights)
        return totals[0], grads[0]

    def gradients(
        self, params: Float[Tensor, "k p"], batch: Batch, weights: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        """The same at k parameter vectors: one matrix product for all k models."""
        a = self.features(batch, params.dtype)
        k = params.shape[0]
        stacked = self.matrix(params).reshape(k * self.outputs_count, -1)
        z = (a @ stacked.T).reshape(len(a), k, -1).transpose(0, 1)
        if self._bias_fixed is not None:
            z = z + self._bias_fixed.to(z.dtype)
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            values = torch.vmap(lambda row: self._function.of_outputs(row, batch))(point)
            totals = values @ weights
            (slopes,) = torch.autograd.grad(totals.sum(), point)
        grads = slopes.transpose(0, 1).reshape(len(a), -1).T @ a
        return totals.detach(), self.vector(grads.reshape(k, self.outputs_count, -1))

    def outputs_of(self, params: Float[Tensor, " p"], batch: Batch) -> Float[Tensor, "batch c"]:
        """The model's outputs."""
        return self.outputs(params, self.features(batch, params.dtype))

    def each(
        self, params: Float[Tensor, " p"], batch: Batch, cotangents: Cotangents | None = None, *, compacted: bool = True
    ) -> Gradients:
        """The gradient r_i ⊗ a_i of every example, or u_i ⊗ a_i of its outputs."""
        a = self.features(batch, params.dtype)
        outputs = self.outputs(params, a)
        if callable(cotangents):
            cotangents = cotangents(outputs)
        found = self.outers(a, self._slope(outputs, batch) if cotangents is None else cotangents)
        return found.compact() if compacted else found

    def outers(self, a: Float[Tensor, "batch d"], slopes: Float[Tensor, "batch c"]) -> Gradients:
        """The gradients of features a_i and output gradients r_i."""
        block = Block(self.plan.shapes[0], (Outer(slopes[:, None], a[:, None]),))
        return Gradients(self.layout, (block,), len(a))

    def _slope(self, outputs: Float[Tensor, "batch c"], batch: Batch) -> Float[Tensor, "batch c"]:
        with torch.enable_grad():
            point = outputs.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._function.of_outputs(point, batch).sum(), point)
        return slope

    def output_curvature(
        self, params: Float[Tensor, " p"], batch: Batch
    ) -> tuple[Float[Tensor, "batch d"], Float[Tensor, "batch c"], OutputCurvature]:
        """Features, gradient and Hessian of f with respect to the outputs."""
        a = self.features(batch, params.dtype)
        outputs = self.outputs(params, a)
        soft = softmax_of(self._function, outputs, batch) if self.by_softmax else None
        if soft is not None:
            return a, self._slope(outputs, batch), Softmax(*soft)
        slope, curvature = output_derivatives(lambda z: self._function.of_outputs(z, batch), outputs)
        return a, slope, Whole(curvature)

    def hessian_product(
        self,
        params: Float[Tensor, " p"],
        batch: Batch,
        weights: Float[Tensor, " batch"],
        vectors: Float[Tensor, "k p"],
    ) -> Float[Tensor, "k p"]:
        """Σ w_i (Λ_i V a_i) ⊗ a_i. With linear outputs the Hessian is the GGN."""
        a, _, curvature = self.output_curvature(params, batch)
        return self.product(a, curvature.weighted(weights), vectors)

    ggn_product = hessian_product

    def product(
        self,
        a: Float[Tensor, "batch d"],
        curvature: OutputCurvature,
        vectors: Float[Tensor, "k p"],
    ) -> Float[Tensor, "k p"]:
        """Σ (Λ_i V a_i) ⊗ a_i from features a and (weighted) output curvatures Λ."""
        parts = []
        for chunk in vectors.split(rows_at_once(len(a) * self.outputs_count, a.device)):
            pushed = (a @ self.matrix(chunk).flatten(0, 1).T).reshape(len(a), len(chunk), self.outputs_count)
            curved = curvature.apply(pushed).flatten(1)
            parts.append((curved.T @ a).reshape(len(chunk), self.outputs_count, self.features_count))
        return self.vector(torch.cat(parts))

    def dense(
        self,
        factors: Iterable[tuple[Float[Tensor, "batch d"], OutputCurvature]],
        used: Int[Tensor, " u"],
    ) -> Float[Tensor, "c d c d"]:
        """Σ Λ_i ⊗ a_i a_iᵀ from blocks of features and (weighted) output curvatures.

        ``used`` are the features that are not zero in every example (the rim of an image often is).

        Every pair of outputs has a symmetric block, so that about half of the products suffice, and so has the whole.
        """
        count, width = self.outputs_count, len(used)
        every = width == self.features_count
        edges = torch.linspace(0, width, TILES + 1).long().tolist()
        total = None
        blocks = iter(factors)
        first = next(blocks, None)
        assert first is not None
        if isinstance(first[1], Softmax):
            return softmax_dense(_soft(chain([first], blocks)), used, self.features_count)
        for a, whole in chain([first], blocks):
            curvature = whole.whole()
            if total is None:
                total = a.new_zeros(count, width, count, width)
            a = a if every else a.index_select(1, used)
            for c in range(count):
                for other in range(c, count):
                    weighted = a * curvature[:, c, other, None]
                    for start, stop in pairwise(edges):
                        total[c, start:stop, other, start:] += weighted[:, start:stop].T @ a[:, start:]
        assert total is not None
        for c in range(count):
            for other in range(c, count):
                upper = total[c, :, other]
                block = upper.triu() + upper.triu(1).T
                total[c, :, other] = total[other, :, c] = block
        if every:
            return total
        wide = total.new_zeros(count, self.features_count, count, self.features_count)
        for c in range(count):
            for other in range(count):
                wide[c, used[:, None], other, used] = total[c, :, other]
        return wide

    def order(self) -> Tensor:
        """Positions of θ's entries in the flattened [outputs, features] matrix."""
        return self.vector(torch.arange(self.layout.p, dtype=torch.float64).reshape(self.outputs_count, -1)).long()

    def output_factors(
        self, params: Float[Tensor, " p"], batch: Batch
    ) -> tuple[Float[Tensor, "batch c p"], Float[Tensor, "batch c"], Float[Tensor, "batch c c"]]:
        """Jacobian e_c ⊗ a_i of the outputs, gradient and Hessian of f with respect to them."""
        a, slope, curvature = self.output_curvature(params, batch)
        units = torch.eye(self.outputs_count, dtype=a.dtype, device=a.device)
        return self.vector(units[None, :, :, None] * a[:, None, None, :]), slope, curvature.whole()


def _soft(blocks: Iterable[tuple[Tensor, OutputCurvature]]) -> Iterator[tuple[Tensor, Softmax]]:
    for a, curvature in blocks:
        assert isinstance(curvature, Softmax)
        yield a, curvature


def split_model(model: nn.Module, layout: Layout) -> tuple[nn.Module, nn.Linear] | None:
    """The fixed part and the linear layer that holds all of θ, if the model has that form."""
    if isinstance(model, nn.Linear):
        prefix: nn.Module = nn.Identity()
        layer: nn.Module = model
        name = ""
    elif type(model) is nn.Sequential and len(model) and isinstance(model[-1], nn.Linear):
        prefix, layer, name = model[:-1], model[-1], f"{len(model) - 1}."
    else:
        return None
    assert isinstance(layer, nn.Linear)
    # Exactly these types, and nothing hung on them: what a subclass or a hook does to other examples shows on no probe.
    if (
        type(layer) is not nn.Linear
        or not (is_bare(layer) and is_bare(model))
        or layout.names
        not in (
            (f"{name}weight",),
            (f"{name}weight", f"{name}bias"),
        )
    ):
        return None
    return prefix, layer


def is_bare(module: nn.Module) -> bool:
    """Whether a module computes what its class says: no hooks, no ``forward`` of its own."""
    hooks = (value for name, value in vars(module).items() if name.endswith("_hooks") and "state_dict" not in name)
    return "forward" not in vars(module) and not any(hooks)


def applies(
    function: LinearFunction, outputs: Tensor, params: Tensor, batch: Batch, half: torch.dtype | None = None
) -> bool:
    """Whether the model's outputs on a batch are those of the linear form (one feature vector per example).

    ``half``: the 16 bits in which the model runs, if it does: the linear form makes its last layer in float32.
    """
    if not tensors(batch) or outputs.dim() != 2:
        return False
    a = function.features(batch, params.dtype)
    if a.dim() != 2 or a.shape[1] != function.features_count:
        return False
    found = function.outputs(params, a)
    if half is not None:
        return bool((found - outputs).norm() <= 4 * torch.finfo(half).eps * outputs.norm())
    return torch.allclose(found, outputs, rtol=1e-4, atol=1e-5)
