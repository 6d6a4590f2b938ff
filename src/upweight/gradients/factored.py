"""Per-example derivatives by factors: one forward pass, one backward pass to operations' outputs, no weight gradient.

The autograd graph of the forward pass tells where each parameter enters (`upweight.gradients.graph`); differentiating
with respect to those operations' outputs gives the left factors, their saved inputs are the right ones
(`upweight.gradients.rules`). A first small batch settles how examples lie in each operation and checks every
parameter's numbers against plain differentiation, example by example; what doesn't agree, or has no rule, goes the
slow way (`torch.func`, for those parameters alone), and the coverage report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad as func_grad
from torch.utils import _pytree as pytree

from upweight.data import Batch, batch_length
from upweight.gradients.assemble import joins, merged, needs_transposition, oriented, term_of, with_ones
from upweight.gradients.autograd import AutogradFunction, derivative, substituted
from upweight.gradients.blocks import Block, Factors, Shape
from upweight.gradients.graph import Use, uses
from upweight.gradients.locate import located, output_gradients, scattered
from upweight.gradients.owners import arranges_by_value, lying, owners, seeds
from upweight.gradients.rules import RULES, Examples
from upweight.gradients.seen_forms import Form, form, holds, nothing
from upweight.gradients.terms import Direct, Term, compact
from upweight.messages import SlowPathWarning, warn
from upweight.parameters import Layout

Key = tuple[str, str, int]
"""A parameter, an operation, and which of its inputs: all uses alike share one way of holding examples."""

AGREEMENT = {torch.float64: 1e-8, torch.float32: 2e-3}
"""‖difference‖/‖gradient‖ of a parameter that the check allows."""


@dataclass(frozen=True)
class Plan:
    """What the first batch settled.

    Attributes
    ----------
    shapes
        The blocks, in the order of θ.
    examples
        How examples lie in the operations.
    unbatched
        Operations on a parameter that don't depend on the examples.
    slow
        Parameters without a rule, with the reason.
    unused
        Parameters that the value doesn't depend on.
    """

    shapes: tuple[Shape, ...]
    examples: Mapping[Key, Examples]
    unbatched: frozenset[tuple[str, str]]
    slow: Mapping[str, str]
    unused: tuple[str, ...]

    def without(self, name: str, leaves: Mapping[str, Tensor], reason: str = "its operation changes form") -> Plan:
        """The plan with a parameter, and a bias that shares its block, moved to the slow way."""
        slow = dict(self.slow)
        shapes: list[Shape] = []
        for shape in self.shapes:
            if name not in shape.names:
                shapes.append(shape)
                continue
            shapes += [_plain(part, leaves[part]) for part in shape.names]
            slow.update({part: reason for part in shape.names if part not in slow})
        return replace(self, shapes=tuple(shapes), slow=slow)


class _OtherForm(Exception):
    """A parameter's operation took a form that its rule doesn't hold for; the argument is the parameter's name."""


class FactoredFunction(AutogradFunction):
    """Derivatives of ``function(model, batch) -> [batch]`` of any model, by factors wherever its operations allow."""

    def __init__(self, model: nn.Module, function: Any, layout: Layout, params: Float[Tensor, " p"], probe: Batch):
        super().__init__(model, function, layout)
        self._once = substituted(model, function, twice=False)
        self._outputs_once = substituted(model, function.outputs, twice=False) if self.split else None
        self._recurrent = any(isinstance(part, nn.RNNBase) for part in model.modules())
        self.peak = 1
        """Numbers per example in the largest operation's factors, which bounds a batch."""
        self._seen: set[Form] = set()  # forms of batches whose examples lie as the plan says
        self.plan = self._planned(params, probe)

    def factors(
        self,
        params: Float[Tensor, " p"],
        batch: Batch,
        cotangents: Tensor | Callable[[Tensor], Tensor] | None = None,
        *,
        compacted: bool = True,
    ) -> Factors:
        """Per-example gradients of f, or, with cotangents u_i of the outputs ``[batch, …]``, rows J_iᵀu_i.

        ``cotangents`` may be a function of the outputs, which then serve the forward pass and the draw alike.
        ``compacted``: each in the form that holds fewest numbers, one operation after the other; where factors must
        stay factors (Kronecker statistics), say False.
        """
        count = batch_length(batch)
        with self._forward(params, batch, cotangents is not None) as (leaves, root):
            if callable(cotangents):
                cotangents = cotangents(root.detach())
            seed = torch.ones_like(root) if cotangents is None else cotangents.reshape(root.shape)
            try:
                found = self._terms(root, leaves, seed, batch, compacted)
            except _OtherForm as other:  # e.g. bags of unequal length: from here on, that parameter goes the slow way
                self.plan = self.plan.without(str(other), leaves)
                warn(
                    f"per-example gradients: in a batch of {count} examples the rows of {other} are not each one "
                    "example's as in the first ones; from here on it is differentiated without factors, which is "
                    "correct, but slower",
                    SlowPathWarning,
                )
                return self.factors(params, batch, cotangents, compacted=compacted)
            slow = self._slow_values(params, batch, cotangents)
            blocks = tuple(self._block(shape, found, slow, count, params) for shape in self.plan.shapes)
        return Factors(self.layout, blocks, count)

    def outputs(self, params: Float[Tensor, " p"], batch: Batch) -> Tensor:
        """The model's outputs, ``[batch, …]``."""
        self._require_outputs()
        assert self._outputs_once is not None
        return self._outputs_once(self.layout.unflatten(params), batch)

    def materialize(self, params: Float[Tensor, " p"], batch: Batch) -> Float[Tensor, "batch p"]:
        """The gradient of every example."""
        return self.factors(params, batch).materialize()

    def inner(
        self, params: Float[Tensor, " p"], batch: Batch, vectors: Float[Tensor, "k p"]
    ) -> Float[Tensor, "k batch"]:
        """Inner products of k vectors with every example's gradient."""
        return self.factors(params, batch).inner(vectors)

    @contextmanager
    def _forward(self, params: Tensor, batch: Batch, outputs: bool) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            if self._recurrent:  # fused recurrent kernels hide the products inside them
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            leaves = self._leaves(params)
            if outputs:
                self._require_outputs()
                assert self._outputs_once is not None
                yield leaves, self._outputs_once(leaves, batch)
            else:
                yield leaves, self._once(leaves, batch)

    def _terms(
        self, root: Tensor, leaves: dict[str, Tensor], seed: Tensor, batch: Batch, compacted: bool
    ) -> dict[str, list[Term]]:
        """The terms of every use of every parameter that goes the fast way."""
        plan, count, as_planned = self.plan, batch_length(batch), True
        found = [use for use in uses([root], leaves, plan.unbatched) if use.name not in plan.slow]
        gradients = output_gradients(root, found, seed)
        ways = [plan.examples.get((use.name, use.kind, use.slot)) for use in found]
        own = form(batch, found, gradients, ways, count)
        by_value = count > 1 and arranges_by_value(root, count)
        is_new = count > 1 and not by_value and own not in self._seen
        multipliers = seeds(count, root.detach()) if by_value or is_new else root.new_empty(0, count)
        seeded = [output_gradients(root, found, row.reshape(-1, *[1] * (seed.dim() - 1)) * seed) for row in multipliers]
        rounding = nothing(gradients) if is_new else 0.0
        terms: dict[str, list[Term]] = {}
        shapes = {shape.weight: shape for shape in plan.shapes}
        for use, at in zip(found, ways, strict=True):
            shape = shapes.get(use.name)
            if shape is None:
                continue  # a bias: one more column of its weight
            g = gradients.get(use.node)
            if g is None or not g.numel():
                continue  # nothing of this batch went that way
            if count == 1:  # one example is everywhere; torch takes other operations where a batch is one
                at = Examples(0 if at is None else at.dim, 1)
            way = at
            if at is None and seeded and use.kind in RULES:
                at = Examples(0, 1)  # an expert to which the first examples sent nothing
            if at is not None and seeded:
                rows = [each[use.node] for each in seeded]
                if not (is_new and holds(at, g, rows, multipliers, count, rounding)):
                    at = self._owned(use, at, g, rows, count)
            as_planned = as_planned and at is way
            term = None if at is None else term_of(use, g, at, count, leaves[use.name])
            if term is None:
                raise _OtherForm(use.name)
            self.peak = max(self.peak, term.numbers)
            term = oriented(use, term, shape)
            if shape.bias is not None:
                term = with_ones(term)
            if compacted:
                term = compact(term)
            terms.setdefault(use.name, []).append(term)
        if seeded and as_planned:
            self._seen.add(own)
        return terms

    def _owned(self, use: Use, at: Examples, g: Tensor, seeded: list[Tensor], count: int) -> Examples:
        """How this batch's examples lie in an operation: as planned, or wherever they are."""
        found = owners(g, seeded, at.dim, count)
        if found is None:
            raise _OtherForm(use.name)
        return lying(at, found, g.shape, at.dim, count)

    def _block(
        self,
        shape: Shape,
        found: Mapping[str, list[Term]],
        slow: Mapping[str, Tensor],
        count: int,
        like: Tensor,
    ) -> Block:
        if shape.weight in slow:
            return Block(shape, (Direct(slow[shape.weight].reshape(count, shape.rows, shape.columns)),))
        terms = found.get(shape.weight, [])
        if not terms:
            return Block(shape, (Direct(like.new_zeros(count, shape.rows, shape.columns)),))
        return Block(shape, merged(terms))

    def _slow_values(self, params: Tensor, batch: Batch, cotangents: Tensor | None) -> dict[str, Tensor]:
        """Gradients of the parameters without a rule, by vmap over examples or one example at a time."""
        names = list(self.plan.slow)
        if not names:
            return {}
        if self._vmap_works:
            try:
                return self._slow_vmap(params, batch, cotangents, names)
            except (RuntimeError, ValueError, TypeError) as error:
                self._vmap_works = False
                reason = str(error).strip().splitlines()[0][:160]
                warn(
                    f"per-example gradients of {', '.join(names)} can't be vectorised over examples ({reason}); "
                    f"differentiating one example at a time, {batch_length(batch)} passes per batch",
                    SlowPathWarning,
                )
        return self._slow_loop(params, batch, cotangents, names)

    def _slow_vmap(
        self, params: Tensor, batch: Batch, cotangents: Tensor | None, names: list[str]
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

    def _slow_loop(
        self, params: Tensor, batch: Batch, cotangents: Tensor | None, names: list[str]
    ) -> dict[str, Tensor]:
        with self._forward(params, batch, cotangents is not None) as (leaves, root):
            values = (
                root if cotangents is None else (root * cotangents.reshape(root.shape)).reshape(len(root), -1).sum(1)
            )
            chosen = [leaves[name] for name in names]
            rows = [derivative([value], chosen, None) for value in values]
        columns = zip(*rows, strict=True)
        return {name: torch.stack(column).detach() for name, column in zip(names, columns, strict=True)}

    def _planned(self, params: Tensor, probe: Batch) -> Plan:
        """Settle the plan on a batch of two or more examples, and check its numbers."""
        self.plan = Plan((), {}, frozenset(), {}, ())
        count = batch_length(probe)
        with self._forward(params, probe, outputs=False) as (leaves, root):
            examples, unbatched, slow, found = self._settled(root, leaves, count)
            unused = tuple(name for name in self.layout.names if name not in {use.name for use in found})
            gradients = output_gradients(root, found, torch.ones_like(root))
            shapes = tuple(self._shapes(found, slow, leaves, gradients))
        self.plan = Plan(shapes, examples, unbatched, slow, unused)
        return self._agreeing(params, probe)

    def _settled(
        self, root: Tensor, leaves: dict[str, Tensor], count: int
    ) -> tuple[dict[Key, Examples], frozenset[tuple[str, str]], dict[str, str], list[Use]]:
        unbatched: frozenset[tuple[str, str]] = frozenset()
        by_value = arranges_by_value(root, count)
        while True:
            found = list(uses([root], leaves, unbatched))
            seeds = torch.eye(count, dtype=root.dtype, device=root.device)
            gradients = [output_gradients(root, found, seed) for seed in seeds]
            examples: dict[Key, Examples] = {}
            slow: dict[str, str] = {}
            fixed: set[tuple[str, str]] = set()
            for use in found:
                rows = [gradient[use.node] for gradient in gradients if use.node in gradient]
                at = located(use, rows, count, examples.get((use.name, use.kind, use.slot))) if rows else None
                if at is None and by_value and rows and use.kind in RULES:
                    at = scattered(use, rows, count)
                if use.kind not in RULES:
                    slow[use.name] = f"no rule for {use.kind}"
                elif at is None:
                    # No way of holding examples fits: the operation may not depend on them.
                    fixed.add((use.name, use.kind))
                    slow[use.name] = f"{use.kind} doesn't keep examples apart"
                elif term_of(use, rows[0], at, count, leaves[use.name]) is None:
                    slow[use.name] = f"{use.kind} in a form without a rule"
                else:
                    examples[use.name, use.kind, use.slot] = at
            if fixed <= unbatched:
                return examples, unbatched, slow, found
            unbatched |= fixed

    def _shapes(
        self, found: list[Use], slow: Mapping[str, str], leaves: Mapping[str, Tensor], gradients: Mapping[Any, Tensor]
    ) -> Iterator[Shape]:
        each: dict[str, list[Use]] = {}
        for use in found:
            each.setdefault(use.name, []).append(use)
        weights = {name: own[-1] for name, own in each.items() if name not in slow}
        biases: dict[str, str] = {}
        for name, use in weights.items():
            partner = next((other for other in found if joins(use, other, gradients)), None)
            if partner is None or partner.name in slow or partner.name in biases.values():
                continue
            own, others = each[name], each[partner.name]
            pairs = zip(own, others, strict=False)
            if len(own) == len(others) and all(joins(*pair, gradients) for pair in pairs):
                biases[name] = partner.name
        for name in self.layout.names:
            if name in biases.values():
                continue
            size = leaves[name].shape
            rows = size[0] if len(size) else 1
            columns = leaves[name].numel() // max(rows, 1)
            transposed = name in weights and needs_transposition(weights[name])
            if transposed:
                rows, columns = columns, rows
            yield Shape(name, biases.get(name), rows, columns + (name in biases), transposed)

    def _agreeing(self, params: Tensor, probe: Batch) -> Plan:
        """The plan, with parameters whose numbers differ from plain differentiation moved to the slow way."""
        plan = self.plan
        fast = self.layout.unflatten(self.factors(params, probe).materialize())
        true = self.layout.unflatten(self._materialize_loop(params, probe))
        allowed = AGREEMENT.get(params.dtype, 2e-3)
        leaves = {name: value[0] for name, value in true.items()}
        scale = float(torch.cat([value.flatten() for value in true.values()]).norm())
        for name, value in true.items():
            gap, size = float((fast[name] - value).norm()), float(value.norm())
            if name not in plan.slow and not gap <= allowed * (size + 1e-3 * scale):
                reason = f"its factors differ from plain differentiation by {gap / max(size, 1e-300):.0%}"
                plan = plan.without(name, leaves, reason)
        return plan


def _plain(name: str, value: Tensor) -> Shape:
    rows = value.shape[0] if value.dim() else 1
    return Shape(name, None, rows, value.numel() // max(rows, 1))
