"""Per-example derivatives by factors: one forward pass, one backward pass to operations' outputs, no weight gradient.

The autograd graph of the forward pass tells where each parameter enters (`upweight.gradients.graph`); differentiating
with respect to those operations' outputs gives the left factors, their saved inputs are the right ones
(`upweight.gradients.rules`). A first small batch settles how examples lie in each operation and checks every
parameter's numbers against plain differentiation, example by example; what doesn't agree, or has no rule, goes the
slow way (`torch.func`, for those parameters alone), and the coverage report says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.data import Batch, batch_length
from upweight.errors import SlowPathWarning, warn
from upweight.forward import coarsest, half_of
from upweight.gradients.assemble import joins, merged, needs_transposition, oriented, term_of, with_ones
from upweight.gradients.autograd import AutogradFunction
from upweight.gradients.blocks import Block, Cotangents, Gradients, Shape
from upweight.gradients.form import Forms, Found, walked
from upweight.gradients.graph import Use, uses
from upweight.gradients.locate import located, output_gradients, scattered
from upweight.gradients.owners import lying, owners, seeds
from upweight.gradients.places import Answers
from upweight.gradients.plan import Key, Plan
from upweight.gradients.rules import ROW_DIMS, RULES, Examples
from upweight.gradients.terms import Direct, Outer, Term, compact
from upweight.gradients.traced import traced
from upweight.parameters import Layout

AGREEMENT = {torch.float64: 1e-8, torch.float32: 2e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""‖difference‖/‖gradient‖ of a parameter that the check allows, by the coarsest precision in the graph."""


class FactoredFunction(AutogradFunction):
    """Derivatives of ``function(model, batch) -> [batch]`` of any model, by factors wherever its operations allow."""

    factored = True

    def __init__(self, model: nn.Module, function: Any, layout: Layout, params: Float[Tensor, " p"], probe: Batch):
        super().__init__(model, function, layout)
        self._recurrent = any(isinstance(part, nn.RNNBase) for part in model.modules())
        self._factors, self._is_half = 1, half_of(model) is not None
        self._forms = Forms()
        self.plan = self._settled_plan(params, probe)

    @property
    def factors(self) -> int:
        """Numbers of an example's factors, as far as batches have shown."""
        return self._factors

    def gradient(
        self, params: Float[Tensor, " p"], batch: Batch, weights: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " p"]]:
        """Σ w_i f_i and its gradient: where the model has 16 bits, a sum of factors, as torch's has no more digits."""
        if not self._is_half:
            return super().gradient(params, batch, weights)
        total = weights @ self.values(params, batch)
        return total, self.each(params, batch, compacted=False).combine(weights[None])[0]

    def each(
        self, params: Float[Tensor, " p"], batch: Batch, cotangents: Cotangents | None = None, *, compacted: bool = True
    ) -> Gradients:
        """Per-example gradients of f, or, with cotangents u_i of the outputs ``[batch, …]``, rows J_iᵀu_i.

        ``cotangents`` may be a function of the outputs, which then serve the forward pass and the draw alike.
        """
        return self._by(self.plan, params, batch, cotangents, compacted)

    def _by(
        self, plan: Plan, params: Tensor, batch: Batch, cotangents: Cotangents | None, compacted: bool
    ) -> Gradients:
        count = batch_length(batch)
        with self._forward(params, batch, cotangents is not None) as (leaves, root):
            if callable(cotangents):
                cotangents = cotangents(root.detach())
            seed = None if cotangents is None else cotangents.reshape(root.shape)
            found, other = self._terms(plan, root, leaves, seed, batch, compacted)
        if other:  # e.g. bags of unequal length
            warn(
                f"per-example gradients: in some batches the rows of {', '.join(sorted(other))} are not each one "
                "example's as in the first ones; there they are differentiated without factors, which is correct, but "
                "slower",
                SlowPathWarning,
            )
        names = [*plan.slow, *(name for shape in plan.shapes if shape.weight in other for name in shape.names)]
        slow = self.of_parameters(params, batch, cotangents, names) if names else {}
        blocks = tuple(self._block(shape, found, slow, count, params) for shape in plan.shapes)
        return Gradients(self.layout, blocks, count)

    @contextmanager
    def _forward(self, params: Tensor, batch: Batch, outputs: bool) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        with ExitStack() as stack:
            if self._recurrent:  # fused recurrent kernels hide the products inside them
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            yield stack.enter_context(super()._forward(params, batch, outputs))

    def _terms(
        self, plan: Plan, root: Tensor, leaves: dict[str, Tensor], seed: Tensor | None, batch: Batch, compacted: bool
    ) -> tuple[dict[str, list[Term]], set[str]]:
        """The terms of every use of every parameter that goes the fast way, and weights that can't in this batch."""
        count, other = batch_length(batch), set[str]()
        read = [(use, at) for use, at in self._read(plan, root, leaves, count) if use.name not in plan.slow]
        found = [use for use, _ in read]
        gradients = output_gradients(root, found, seed)
        unproved = [use for use, at in read if at is None and use.kind in RULES]
        rows = [row.reshape(-1, *[1] * (root.dim() - 1)) for row in seeds(count, root.detach())] if unproved else []
        seeded = [output_gradients(root, unproved, row if seed is None else row * seed) for row in rows]
        terms: dict[str, list[Term]] = {}
        numbers = 0
        times = Counter(use.name for use in found)
        shapes = {shape.weight: shape for shape in plan.shapes}
        for use, at in read:
            shape = shapes.get(use.name)
            if shape is None:
                continue  # a bias: one more column of its weight
            g = gradients.get(use.node)
            if g is None or not g.numel():
                continue  # nothing of this batch went that way
            if at is None and seeded:
                # An expert to which the first examples sent nothing has no place in the plan.
                known = plan.examples.get((use.name, use.kind, use.slot), Examples(0, 1))
                at = owned(known, g, [each[use.node] for each in seeded], count)
            term = None if at is None else term_of(use, g, at, count, leaves[use.name])
            term = None if term is None else oriented(use, term, shape)
            if term is not None and shape.bias is not None:
                together = isinstance(term, Outer) and times[shape.weight] == times[shape.bias]
                term = with_ones(term) if together else None
            if term is None:
                other.add(use.name)
                continue
            numbers += term.numbers
            if compacted:
                term = compact(term)
            terms.setdefault(use.name, []).append(term)
        self._factors = max(self._factors, numbers)
        return terms, other

    def _read(self, plan: Plan, root: Tensor, leaves: dict[str, Tensor], count: int) -> Found:
        """Every use, and how the examples lie in it, as far as the graph proves it: kept for batches of one form."""
        nodes, key = walked(root, leaves)
        known = self._forms.known(key, nodes)
        if known is None:
            answers: Answers = {}
            known = _ways(plan, root, list(uses([root], leaves, plan.unbatched)), count, answers)
            self._forms.keep(key, nodes, known, answers)
        return known

    def _block(
        self,
        shape: Shape,
        found: Mapping[str, list[Term]],
        slow: Mapping[str, Tensor],
        count: int,
        like: Tensor,
    ) -> Block:
        if shape.weight in slow:
            return Block(shape, (Direct(shape.matrices(slow, count)),))
        terms = found.get(shape.weight, [])
        if not terms:
            return Block(shape, (Direct(like.new_zeros(count, shape.rows, shape.columns)),))
        return Block(shape, merged(terms))

    def _settled_plan(self, params: Tensor, probe: Batch) -> Plan:
        """Settle the plan on a batch of two or more examples, and check its numbers."""
        count = batch_length(probe)
        with self._forward(params, probe, outputs=False) as (leaves, root):
            examples, unbatched, slow, found = self._settled(root, leaves, count)
            unused = tuple(name for name in self.layout.names if name not in {use.name for use in found})
            gradients = output_gradients(root, found)
            shapes = tuple(self._shapes(found, slow, leaves, gradients))
            precision = coarsest(g.dtype for g in gradients.values()) or params.dtype
        return self._agreeing(Plan(shapes, examples, unbatched, slow, unused), params, probe, AGREEMENT[precision])

    def _settled(
        self, root: Tensor, leaves: dict[str, Tensor], count: int
    ) -> tuple[dict[Key, Examples], frozenset[tuple[str, str]], dict[str, str], list[Use]]:
        unbatched: frozenset[tuple[str, str]] = frozenset()
        proved = traced(root, count)
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
                if at is None and (use.node, 0) not in proved and rows and use.kind in RULES:
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

    def _agreeing(self, plan: Plan, params: Tensor, probe: Batch, allowed: float) -> Plan:
        """The plan, with parameters whose numbers differ from plain differentiation moved to the slow way."""
        fast, count = self._by(plan, params, probe, None, True), batch_length(probe)
        gaps, sizes = dict.fromkeys(self.layout.names, 0.0), dict.fromkeys(self.layout.names, 0.0)
        for example in range(count):  # one after the other: a gradient is as large as the model
            true = self.one_by_one(params, probe, None, list(self.layout.names), [example])
            for block in fast.blocks:
                for name, found in block.shape.named(block.take(slice(example, example + 1)).materialize()).items():
                    gaps[name] += float((found[0] - true[name].flatten()).double().square().sum())
                    sizes[name] += float(true[name].double().square().sum())
        scale = sum(sizes.values()) ** 0.5
        leaves = self.layout.unflatten(params)
        for name in self.layout.names:
            gap, size = gaps[name] ** 0.5, sizes[name] ** 0.5
            if name not in plan.slow and not gap <= allowed * (size + 1e-3 * scale):
                reason = f"its factors differ from plain differentiation by {gap / max(size, 1e-300):.0%}"
                plan = plan.without(name, leaves, reason)
        return plan


def _ways(plan: Plan, root: Tensor, found: list[Use], count: int, answers: Answers) -> Found:
    """How the examples lie in the output of each use: one alone everywhere, several as the graph proves, if it does."""
    if count == 1:  # torch takes other operations where a batch is one
        known = [plan.examples.get((use.name, use.kind, use.slot)) for use in found]
        return [(use, Examples(0 if at is None else at.dim, 1)) for use, at in zip(found, known, strict=True)]
    places = traced(root, count, answers)
    ways: Found = []
    for use in found:
        at = places.get((use.node, 0))
        dims = ROW_DIMS.get(use.kind)
        allowed = at is None or dims is None or at.dim in dims(use, use.node._input_metadata[0].shape)
        ways.append((use, at if allowed else None))
    return ways


def owned(at: Examples, g: Tensor, seeded: list[Tensor], count: int) -> Examples | None:
    """How a batch's examples lie in an operation: as planned, or wherever they are; None where rows have several."""
    found = owners(g, seeded, at.dim, count)
    return None if found is None else lying(at, found, g.shape, at.dim, count)
