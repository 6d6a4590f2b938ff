"""Per-example derivatives of any model by automatic differentiation.

Products with several vectors share one forward and one backward pass: only the last differentiation is
batched over the vectors. Every graph is local to a call and freed with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad as func_grad
from torch.utils import _pytree as pytree

from upweight.data import Batch, batch_length
from upweight.errors import InputError, SlowPathWarning, warn
from upweight.forward import refuse_half
from upweight.gradients.blocks import Block, Cotangents, Gradients
from upweight.gradients.output_curvature import MANY, softmax_of, softmax_product
from upweight.gradients.plan import unfactored
from upweight.gradients.substituted import substituted
from upweight.gradients.terms import Direct
from upweight.losses import Split
from upweight.parameters import Layout

VECTORS_AT_ONCE = 32
"""Vectors differentiated together: each holds activations of the whole batch."""


def _refuse_without_second(error: RuntimeError) -> None:
    """Name the operation that torch can't differentiate twice, and what works instead."""
    found = re.search(r"derivative for '?(?:aten::)?(\w+)'? is not implemented", str(error))
    if found is None:
        return
    raise InputError(
        f"curvature: torch can't differentiate {found[1]} of this model twice, so it has no Hessian products here; "
        "inverses by rows of first derivatives work: the default, inverse.Dual() or inverse.EKFAC() with "
        "curvature.EmpiricalFisher() or curvature.GGN()"
    ) from error


def derivative(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    seeds: Sequence[Tensor] | None,
    *,
    batched: bool = False,
) -> list[Tensor]:
    """Vector-Jacobian products, zero where outputs don't depend on an input; ``batched``: seeds lead with k."""
    pairs = [(out, None if seeds is None else seeds[i]) for i, out in enumerate(outputs) if out.requires_grad]
    k = () if not batched or seeds is None else (seeds[0].shape[0],)
    if not pairs or k == (0,):
        return [value.new_zeros(*k, *value.shape) for value in inputs]
    try:
        results = torch.autograd.grad(
            [out for out, _ in pairs],
            list(inputs),
            None if seeds is None else [seed for _, seed in pairs],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )
    except RuntimeError as error:
        _refuse_without_second(error)
        if not batched or seeds is None:
            raise
        # Some second derivatives (group norm's) can't be batched: one vector after the other.
        rows = [derivative(outputs, inputs, [seed[i] for seed in seeds]) for i in range(*k)]
        return [torch.stack(column) for column in zip(*rows, strict=True)]
    return [
        value.new_zeros(*k, *value.shape) if result is None else result
        for result, value in zip(results, inputs, strict=True)
    ]


class AutogradFunction:
    """Derivatives of ``function(model, batch) -> [batch]`` for any model."""

    factored = False
    linear = None

    def __init__(self, model: nn.Module, function: Any, layout: Layout):
        self.layout = layout
        self.split = isinstance(function, Split)
        self.plan = unfactored(layout)
        self._evaluate = substituted(model, function)
        self._function, self._model = function, model
        self._outputs = substituted(model, function.outputs) if self.split else None
        self._once = substituted(model, function, twice=False)
        self._outputs_once = substituted(model, function.outputs, twice=False) if self.split else None
        self._vmap_works = True

    @property
    def factors(self) -> int:
        """Numbers of an example's gradient."""
        return sum(self.layout.sizes)

    def _leaves(self, params: Tensor) -> dict[str, Tensor]:
        return {name: v.detach().requires_grad_() for name, v in self.layout.unflatten(params).items()}

    def values(self, params: Float[Tensor, " p"], batch: Batch) -> Float[Tensor, " batch"]:
        """f_i(θ)."""
        with torch.no_grad():
            return self._evaluate(self.layout.unflatten(params), batch)

    def gradient(
        self, params: Float[Tensor, " p"], batch: Batch, weights: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " p"]]:
        """Σ w_i f_i and its gradient."""
        with torch.enable_grad():
            leaves = self._leaves(params)
            total = (weights * self._evaluate(leaves, batch)).sum()
            grads = derivative([total], list(leaves.values()), None)
        return total.detach(), self.layout.flatten(dict(zip(leaves, grads, strict=True))).detach()

    def gradients(
        self, params: Float[Tensor, "k p"], batch: Batch, weights: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        """The same at k parameter vectors, one after the other: they share nothing."""
        totals, grads = zip(*(self.gradient(row, batch, weights) for row in params), strict=True)
        return torch.stack(totals), torch.stack(grads)

    def outputs_of(self, params: Float[Tensor, " p"], batch: Batch) -> Tensor:
        """The model's outputs, ``[batch, ...]``."""
        self._require_outputs()
        assert self._outputs_once is not None
        return self._outputs_once(self.layout.unflatten(params), batch)

    def each(
        self, params: Float[Tensor, " p"], batch: Batch, cotangents: Cotangents | None = None, *, compacted: bool = True
    ) -> Gradients:
        """The gradient of every example, or J_iᵀu_i: vmap of the gradient, or example by example where vmap can't."""
        count = batch_length(batch)
        if callable(cotangents):
            with torch.no_grad():
                cotangents = cotangents(self.outputs_of(params, batch))
        named = self.of_parameters(params, batch, cotangents, list(self.layout.names))
        blocks = [Block(shape, (Direct(shape.matrices(named, count)),)) for shape in self.plan.shapes]
        return Gradients(self.layout, tuple(blocks), count)

    def of_parameters(
        self, params: Tensor, batch: Batch, cotangents: Tensor | None, names: Sequence[str]
    ) -> dict[str, Tensor]:
        """Per-example gradients of some parameters, ``[batch, ...]``, without factors."""
        if self._vmap_works:
            try:
                return self._by_vmap(params, batch, cotangents, names)
            except (RuntimeError, ValueError, TypeError) as error:
                self._vmap_works = False
                reason = str(error).strip().splitlines()[0][:160]
                what = "this model or loss" if len(names) == len(self.layout.names) else ", ".join(names)
                warn(
                    f"per-example gradients: {what} can't be vectorised over examples ({reason}); differentiating one "
                    f"example at a time, {batch_length(batch)} passes per batch",
                    SlowPathWarning,
                )
        return self.one_by_one(params, batch, cotangents, names)

    def _by_vmap(
        self, params: Tensor, batch: Batch, cotangents: Tensor | None, names: Sequence[str]
    ) -> dict[str, Tensor]:
        leaves, spec = pytree.tree_flatten(batch)
        dims = [0 if isinstance(leaf, Tensor) else None for leaf in leaves]
        named = {name: v.detach() for name, v in self.layout.unflatten(params).items()}
        fixed = {name: v for name, v in named.items() if name not in names}

        def value(chosen: dict[str, Tensor], seed: Tensor | None, *example: Any) -> Tensor:
            single = [x.unsqueeze(0) if isinstance(x, Tensor) else x for x in example]
            one = pytree.tree_unflatten(single, spec)
            if seed is None:
                return self._evaluate({**fixed, **chosen}, one).sum()
            assert self._outputs is not None
            return (self._outputs({**fixed, **chosen}, one)[0] * seed).sum()

        seeded = None if cotangents is None else 0
        per_example = torch.vmap(func_grad(value), in_dims=(None, seeded, *dims), randomness="error")
        found = per_example({name: named[name] for name in names}, cotangents, *leaves)
        return {name: value.detach() for name, value in found.items()}

    def one_by_one(
        self,
        params: Tensor,
        batch: Batch,
        cotangents: Tensor | None,
        names: Sequence[str],
        examples: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """The same, a backward pass for each example, or for some ``examples`` of the batch."""
        with self._forward(params, batch, cotangents is not None) as (leaves, root):
            values = (
                root if cotangents is None else (root * cotangents.reshape(root.shape)).reshape(len(root), -1).sum(1)
            )
            chosen = [leaves[name] for name in names]
            wanted = values if examples is None else [values[example] for example in examples]
            rows = [derivative([value], chosen, None) for value in wanted]
        columns = zip(*rows, strict=True)
        return {name: torch.stack(column).detach() for name, column in zip(names, columns, strict=True)}

    @contextmanager
    def _forward(
        self, params: Tensor, batch: Batch, outputs: bool, beside: Mapping[str, Tensor] | None = None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Leaves of θ, and the values or outputs that come of them, with a graph between them.

        ``beside``: further leaves at which the graph begins.
        """
        with torch.enable_grad():
            leaves = self._leaves(params)
            given = {**leaves, **(beside or {})}
            if outputs:
                self._require_outputs()
                assert self._outputs_once is not None
                yield leaves, self._outputs_once(given, batch)
            else:
                yield leaves, self._once(given, batch)

    def hessian_product(
        self,
        params: Float[Tensor, " p"],
        batch: Batch,
        weights: Float[Tensor, " batch"],
        vectors: Float[Tensor, "k p"],
    ) -> Float[Tensor, "k p"]:
        """(Σ w_i ∇²f_i) v: the gradient once, then one batched differentiation of it."""
        self._refuse_half("Hessian")
        with torch.enable_grad():
            leaves = self._leaves(params)
            total = (weights * self._evaluate(leaves, batch)).sum()
            inputs = list(leaves.values())
            grads = torch.autograd.grad(total, inputs, create_graph=True, allow_unused=True, materialize_grads=True)
            return self._batched(grads, inputs, vectors)

    def _batched(self, outputs: Sequence[Tensor], inputs: list[Tensor], vectors: Tensor) -> Tensor:
        parts = []
        for chunk in vectors.split(VECTORS_AT_ONCE):
            seeds = list(self.layout.unflatten(chunk).values())
            grads = derivative(outputs, inputs, seeds, batched=True)
            parts.append(self.layout.flatten(dict(zip(self.layout.names, grads, strict=True))))
        return torch.cat(parts).detach()

    def ggn_product(
        self,
        params: Float[Tensor, " p"],
        batch: Batch,
        weights: Float[Tensor, " batch"],
        vectors: Float[Tensor, "k p"],
    ) -> Float[Tensor, "k p"]:
        """Jᵀ Λ J v: Jv by differentiating the vector-Jacobian product by its seed, then Λ, then Jᵀ."""
        self._refuse_half("GGN")
        outputs_of = self._require_outputs()
        with torch.enable_grad():
            leaves = self._leaves(params)
            inputs = list(leaves.values())
            outputs = outputs_of(leaves, batch)
            dummy = torch.zeros_like(outputs, requires_grad=True)
            pulled = torch.autograd.grad(
                outputs, inputs, dummy, create_graph=True, allow_unused=True, materialize_grads=True
            )
            curvature = self._curvature_product(outputs, batch, weights)
            parts = []
            for chunk in vectors.split(VECTORS_AT_ONCE):
                seeds = list(self.layout.unflatten(chunk).values())
                (pushed,) = derivative(pulled, [dummy], seeds, batched=True)
                grads = derivative([outputs], inputs, [curvature(pushed)], batched=True)
                parts.append(self.layout.flatten(dict(zip(leaves, grads, strict=True))))
        return torch.cat(parts).detach()

    def _curvature_product(
        self, outputs: Tensor, batch: Batch, weights: Float[Tensor, " batch"]
    ) -> Callable[[Float[Tensor, "k batch ..."]], Float[Tensor, "k batch ..."]]:
        """w_i Λ_i u of k vectors in the outputs: in closed form for a softmax of many, else by differentiation."""
        soft = softmax_of(self._function, outputs, batch) if outputs.shape[-1] >= MANY else None
        if soft is not None:
            p, mass = soft
            weighted = weights.reshape(-1, *[1] * (mass.dim() - 1)) * mass
            return lambda pushed: softmax_product(p, weighted, pushed)
        point = outputs.detach().requires_grad_()
        total = (weights * self._function.of_outputs(point, batch)).sum()
        (slope,) = torch.autograd.grad(total, point, create_graph=True)
        return lambda pushed: derivative([slope], [point], [pushed], batched=True)[0]

    def output_factors(
        self, params: Float[Tensor, " p"], batch: Batch
    ) -> tuple[Float[Tensor, "batch c p"], Float[Tensor, "batch c"], Float[Tensor, "batch c c"]]:
        """Jacobian of the (flattened) outputs, gradient and Hessian of f with respect to them."""
        outputs_of = self._require_outputs()
        with torch.enable_grad():
            leaves = self._leaves(params)
            inputs = list(leaves.values())
            outputs = outputs_of(leaves, batch)
            flat = outputs.reshape(outputs.shape[0], -1)
            rows = []
            for i in range(flat.shape[0]):
                seeds = torch.zeros(flat.shape[1], *flat.shape, dtype=flat.dtype, device=flat.device)
                seeds[torch.arange(flat.shape[1]), i, torch.arange(flat.shape[1])] = 1
                grads = derivative([flat], inputs, [seeds], batched=True)
                rows.append(self.layout.flatten(dict(zip(leaves, grads, strict=True))))
        point = flat.detach()
        slope, curvature = output_derivatives(
            lambda z: self._function.of_outputs(z.reshape(outputs.shape), batch), point
        )
        return torch.stack(rows).detach(), slope, curvature

    def _refuse_half(self, name: str) -> None:
        refuse_half(
            self._model,
            "curvature",
            f"products with the {name} differentiate twice, and solvers by them need more digits than 16 bits leave",
            ", or an inverse by rows of first derivatives: inverse.Dual(), inverse.EKFAC() or inverse.KFAC()",
        )

    def _require_outputs(self) -> Callable[[dict[str, Tensor], Batch], Tensor]:
        if self._outputs is None:
            raise InputError(
                "curvature: the GGN and leverages need a loss with the split (outputs, loss of outputs); with your "
                "own function use the Hessian, or give an object with the methods outputs and of_outputs"
            )
        return self._outputs


def output_derivatives(
    function: Callable[[Tensor], Tensor], outputs: Float[Tensor, "batch c"]
) -> tuple[Float[Tensor, "batch c"], Float[Tensor, "batch c c"]]:
    """Gradient and Hessian of each example's value with respect to its own outputs."""
    with torch.enable_grad():
        point = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(point).sum(), point, create_graph=True)
        units = torch.eye(point.shape[1], dtype=point.dtype, device=point.device)
        seeds = units[:, None, :].expand(-1, *point.shape)
        (rows,) = derivative([slope], [point], [seeds], batched=True)
    return slope.detach(), rows.transpose(0, 1).detach()
