"""Per-example derivatives by factors: one forward pass, one backward pass to operations' outputs, no weight gradient.

The autograd graph of the forward pass tells where each parameter enters (`upweight.gradients.graph`); differentiating
with respect to those operations' outputs gives the left factors, their saved inputs are the right ones
(`upweight.gradients.rules`). A first small batch settles how examples lie in each operation and checks every
parameter's numbers against plain differentiation, example by example; what doesn't agree, or has no rule, goes the
slow way (`torch.func`, for those parameters alone), and the coverage report says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upweight.data import Batch, batch_length
from upweight.errors import InputError, SlowPathWarning, warn
from upweight.forward import coarsest, half_of
from upweight.gradients.assemble import joins, merged, needs_transposition, oriented, term_of, with_ones
from upweight.gradients.autograd import AutogradFunction
from upweight.gradients.axes import Axes, Axis, followed
from upweight.gradients.blocks import Block, Cotangents, Gradients, Shape
from upweight.gradients.by_position import paired
from upweight.gradients.form import Forms, Found, walked
from upweight.gradients.graph import Node, Use, uses
from upweight.gradients.locate import located, output_gradients, scattered
from upweight.gradients.owners import lying, owners, seeds
from upweight.gradients.places import Answers
from upweight.gradients.plan import Key, Plan
from upweight.gradients.rules import ROW_DIMS, RULES, Examples
from upweight.gradients.terms import Direct, Outer, Term, compact
from upweight.gradients.tokens import (
    LOOKUP,
    Field,
    TokenBlock,
    TokenGradients,
    TokenTerm,
    time_first,
    token_lookups,
    token_term,
)
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
        self._parted, self._together = set[str](), set[str]()
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
    def _forward(
        self, params: Tensor, batch: Batch, outputs: bool, beside: Mapping[str, Tensor] | None = None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        with ExitStack() as stack:
            if self._recurrent:  # fused recurrent kernels hide the products inside them
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            yield stack.enter_context(super()._forward(params, batch, outputs, beside))

    def _terms(
        self, plan: Plan, root: Tensor, leaves: dict[str, Tensor], seed: Tensor | None, batch: Batch, compacted: bool
    ) -> tuple[dict[str, list[Term]], set[str]]:
        """The terms of every use of every parameter that goes the fast way, and weights that can't in this batch."""
        count, other = batch_length(batch), set[str]()
        terms: dict[str, list[Term]] = {}
        numbers = 0
        for met in self._met(plan, root, leaves, seed, batch):
            term = met.term(count, leaves)
            if term is None:
                other.add(met.use.name)
                continue
            numbers += term.numbers
            if compacted:
                term = compact(term)
            terms.setdefault(met.use.name, []).append(term)
        self._factors = max(self._factors, numbers)
        return terms, other

    def _met(
        self,
        plan: Plan,
        root: Tensor,
        leaves: dict[str, Tensor],
        seed: Tensor | None,
        batch: Batch,
        whose: Axes | None = None,
    ) -> Iterator[Met]:
        """Every use of a block's weight that goes the fast way, with the gradient at its operation's output.

        ``whose``: where the examples lie as followed from their tokens; then uses of all weights.
        """
        count = batch_length(batch)
        read = [
            (use, at)
            for use, at in self._read(plan, root, leaves, count)
            if whose is not None or use.name not in plan.slow
        ]
        if whose is not None:
            read = [(use, _followed(use, whose) if at is None or use.name in plan.slow else at) for use, at in read]
        elif any(at is None and use.kind in RULES for use, at in read):
            whose = self._whose(root, leaves, batch)
            read = [(use, _followed(use, whose) if at is None else at) for use, at in read]
        found = [use for use, _ in read]
        gradients = output_gradients(root, found, seed)
        unproved = [use for use, at in read if at is None and use.kind in RULES and use.name not in plan.slow]
        rows = [row.reshape(-1, *[1] * (root.dim() - 1)) for row in seeds(count, root.detach())] if unproved else []
        seeded = [output_gradients(root, unproved, row if seed is None else row * seed) for row in rows]
        times = Counter(use.name for use in found)
        shapes = {shape.weight: shape for shape in plan.shapes}
        for use, at in read:
            shape = shapes.get(use.name)
            if shape is None:
                continue  # a bias: one more column of its weight
            g = gradients.get(use.node)
            if g is None or not g.numel():
                continue  # nothing of this batch went that way
            if at is None and seeded and use.name not in plan.slow:
                # An expert to which the first examples sent nothing has no place in the plan.
                known = plan.examples.get((use.name, use.kind, use.slot), Examples(0, 1))
                at = owned(known, g, [each[use.node] for each in seeded], count)
            yield Met(use, shape, g, at, shape.bias is not None and times[shape.weight] == times[shape.bias])

    def tokens(self, params: Float[Tensor, " p"], batch: Batch, fields: Sequence[str] | None = None) -> TokenGradients:
        """Per-example gradients of f by position of the input, with what has no position as a remainder.

        Parameters
        ----------
        fields
            Keys of the batch that hold tokens ``[batch, time]`` (default: ``input_ids`` and ``decoder_input_ids``, or
            the first that is looked up in a table).

        Raises
        ------
        InputError
            If no lookup of the batch's tokens is found.
        """
        found = self._by_position(params, batch, fields)
        rescued = [name for name in self.plan.slow if name not in found.remainder and name not in self._parted]
        if rescued:  # rows by values, which the first batch's gradients couldn't tell: compared with differentiation
            self._compare(found, params, batch, rescued)
            if any(name in self._together for name in rescued):
                return self._by_position(params, batch, fields)
        return found

    def _compare(self, found: TokenGradients, params: Tensor, batch: Batch, names: list[str]) -> None:
        """Settle which parameters without factors are parted by position all the same."""
        vector = torch.randn(len(params), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(params)
        named, count = self.layout.unflatten(vector), found.examples
        mine, true = found.sums(vector), self.of_parameters(params, batch, None, names)
        allowed = 1e-10 if params.dtype == torch.float64 else 1e-4
        for name in names:
            expected = true[name].reshape(count, -1) @ named[name].flatten()
            is_same = bool((mine[name] - expected).norm() <= allowed * expected.norm())
            (self._parted if is_same else self._together).add(name)

    def _by_position(self, params: Tensor, batch: Batch, fields: Sequence[str] | None) -> TokenGradients:
        count, plan = batch_length(batch), self.plan
        reasons: dict[str, str] = {}
        by_token: dict[str, list[TokenTerm]] = {}
        rest: dict[str, list[Term]] = {}
        together = {name for name in plan.slow if name in self._together}
        reasons.update({name: plan.slow[name] for name in together})
        held = self._held_tables()
        with self._forward(params, batch, False, held) as (leaves, root):
            lookups, parts = self._lookups(root, leaves | held, batch, fields)
            time = parts[-1].stop
            turned = {node: time_first(node, batch, count) for node in lookups}
            starts = {node: Axis(Examples(int(not turned[node]), 1), labels) for node, labels in lookups.items()}
            axes, whose = followed(root, starts), followed(root, _starts(turned, count))
            for met in self._met(plan, root, leaves, None, batch, whose):
                name, places = met.use.name, axes.get(met.use.node, {}).get(0, ())
                if name in together:
                    continue
                found = met.by_token(places, count, time, leaves)
                if not isinstance(found, str):
                    by_token.setdefault(name, []).append(found)
                    continue
                reasons.setdefault(name, plan.slow.get(name, found))
                term = None if name in plan.slow else met.term(count, leaves)
                if term is None:
                    together.add(name)
                else:
                    rest.setdefault(name, []).append(term)
        for name in plan.slow:  # without a use that was met, nothing is known of it
            if name not in by_token:
                together.add(name)
                reasons.setdefault(name, plan.slow[name])
        names = [name for shape in plan.shapes if shape.weight in together for name in shape.names]
        slow = self.of_parameters(params, batch, None, names) if names else {}
        blocks = []
        for shape in plan.shapes:
            if shape.weight in together:
                blocks.append(TokenBlock(shape, (), (Direct(shape.matrices(slow, count)),)))
            else:
                each = by_token.get(shape.weight, ())
                blocks.append(TokenBlock(shape, tuple(each), merged(rest.get(shape.weight, []))))
        return TokenGradients(self.layout, tuple(blocks), count, time, parts, reasons)

    def _whose(self, root: Tensor, leaves: dict[str, Tensor], batch: Batch) -> Axes:
        """Where the examples lie as far as they can be followed from their tokens; {} without tokens."""
        tables = {use.node: use.name for use in uses([root], leaves, frozenset()) if use.kind == LOOKUP}
        lookups, _ = token_lookups(list(tables), batch, batch_length(batch), tables, None)
        count = batch_length(batch)
        return followed(root, _starts({node: time_first(node, batch, count) for node in lookups}, count))

    def _held_tables(self) -> dict[str, Tensor]:
        """Embeddings' tables that are no part of θ, as leaves: by their lookups the tokens are found all the same."""
        named = {id(value): name for name, value in self._model.named_parameters()}
        tables = (part.weight for part in self._model.modules() if isinstance(part, nn.Embedding))
        held = {named[id(table)]: table for table in tables if id(table) in named and table.is_floating_point()}
        theta = set(self.layout.names)
        return {name: table.detach().requires_grad_() for name, table in held.items() if name not in theta}

    def _lookups(
        self, root: Tensor, leaves: dict[str, Tensor], batch: Batch, fields: Sequence[str] | None
    ) -> tuple[dict[Node, Tensor], tuple[Field, ...]]:
        """The lookups of tokens in a graph, with the labels of their positions."""
        tables = {use.node: use.name for use in uses([root], leaves, frozenset()) if use.kind == LOOKUP}
        lookups, parts = token_lookups(list(tables), batch, batch_length(batch), tables, fields)
        if not parts:
            named = "input_ids" if fields is None else " or ".join(fields)
            raise InputError(
                f"by: no table is looked up by the batch's tokens ({named}), [batch, time] of whole numbers, so that "
                "there are no positions to score; give fields=[…], the keys that hold them, or by='example'"
            )
        return lookups, parts

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


@dataclass(frozen=True, eq=False)
class Met:
    """One use of a block's weight in a batch.

    Attributes
    ----------
    g, at
        The gradient at its operation's output, and how the examples lie there; None: not known.
    joined
        Whether every use has the bias beside it.
    """

    use: Use
    shape: Shape
    g: Tensor
    at: Examples | None
    joined: bool

    def term(self, count: int, leaves: Mapping[str, Tensor]) -> Term | None:
        """Its term, as the block stores it; None where no rule holds."""
        use, shape = self.use, self.shape
        term = None if self.at is None else term_of(use, self.g, self.at, count, leaves[use.name])
        term = None if term is None else oriented(use, term, shape)
        if term is not None and shape.bias is not None:
            term = with_ones(term) if self.joined and isinstance(term, Outer) else None
        return term

    def by_token(
        self, places: tuple[Axis, ...], count: int, time: int, leaves: Mapping[str, Tensor]
    ) -> TokenTerm | str:
        """Its term for every pair of example and position; or why there is none."""
        use = self.use
        if self.at is None:
            return f"{use.kind} doesn't keep examples apart"
        if len(places) != 1:
            what = "meets several positions at once" if places else "acts at no one position"
            return f"{use.kind} {what}"
        pairs = paired(use, self.at, places[0], self.g.shape, count, time)
        if pairs is None:
            return f"{use.kind} has rows of several positions"
        term = token_term(use, self.g, pairs, count * time, leaves[use.name], self.shape, self.joined)
        return f"{use.kind} in a form without a rule by position" if term is None else term


def _starts(turned: Mapping[Node, bool], count: int) -> dict[Node, Axis]:
    """Where the examples lie in lookups of tokens, with the positions first or second."""
    labels = torch.arange(count)
    return {node: Axis(Examples(int(is_turned), 1), labels) for node, is_turned in turned.items()}


def _followed(use: Use, whose: Axes) -> Examples | None:
    """How the examples lie in a use, as followed from the tokens."""
    found = whose.get(use.node, {}).get(0, ())
    return found[0].examples if len(found) == 1 else None


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
