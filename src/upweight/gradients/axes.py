"""Which position of the input each row of an operation belongs to, proved on a batch's graph from the tokens up.

A lookup of tokens ``[batch, time]`` has their positions in its second dimension. The rules of
`upweight.gradients.places` say, for each operation, where slices that stay apart lie in an input if they lie so in the
output; here they are asked the other way round: a way of lying in the output is the positions' if the rule leads from
it back to theirs in every input that depends on tokens, or says that this input is everybody's, as an attention's keys
and values are. So its output has the positions of its queries. A row picked by its number (routing to experts, the
last token) has the label of where it was picked; a sum over positions (pooling by a mean) has none, and neither has
what no rule is known for. Examples can be followed in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from upweight.gradients.graph import Node
from upweight.gradients.owners import Owned, planned
from upweight.gradients.places import RULES, SHARED, Answers, Shape, Step, reshaped
from upweight.gradients.rules import Examples
from upweight.gradients.traced import in_order, shape_of

SELECT, SLICE, INDEX, INDEX_ADD = "SelectBackward0", "SliceBackward0", "IndexBackward0", "IndexAddBackward0"


@dataclass(frozen=True, eq=False)
class Axis:
    """Positions in a tensor.

    Attributes
    ----------
    at
        How ``len(labels)`` slices lie in it; None: the whole tensor has one label.
    labels
        The position of each slice, over the fields of a batch behind each other; −1: none.
    """

    at: Examples | None
    labels: Int[Tensor, " count"]

    def alike(self, other: Axis) -> bool:
        """Whether both say the same."""
        same = self.labels is other.labels or torch.equal(self.labels, other.labels)
        return self.at == other.at and same

    @property
    def examples(self) -> Examples | None:
        """How they lie, where it is examples in their order that are followed; None where the tensor has one alone."""
        if self.at is None:
            return None
        labels = self.labels
        ordered = torch.equal(labels, torch.arange(len(labels)))
        return self.at if ordered else Owned(self.at.dim, -1, labels) if self.at.before == 1 else None

    def rows(self, length: int) -> Int[Tensor, " length"]:
        """The label of every entry along the dimension."""
        if self.at is None:
            return self.labels.expand(length)
        return self.labels[planned(self.at, length, len(self.labels), self.labels.device)]


Axes = dict[Node, dict[int, tuple[Axis, ...]]]
"""Of each operation, by the number of its output; several where positions meet positions, as in attention's weights."""


def followed(root: Tensor, lookups: Mapping[Node, Axis], answers: Answers | None = None) -> Axes:
    """Where positions, or examples, lie in the outputs of operations that ``root`` was made by.

    Parameters
    ----------
    lookups
        Where they lie in lookups of tokens.
    answers
        Takes down what was asked of operations beside their shapes.
    """
    answers, orders = {} if answers is None else answers, [axis.labels for axis in lookups.values()]
    order = [] if root.grad_fn is None else list(in_order(root.grad_fn))
    axes: Axes = {}
    for node in reversed(order):
        if node in lookups:
            axes[node] = {0: (lookups[node],)}
        elif any(child in axes for child, _ in node.next_functions):
            numbers = range(len(getattr(node, "_input_metadata", ())))
            axes[node] = {number: _of_output(node, number, axes, orders, answers) for number in numbers}
    return {**axes, **_free(order, axes, answers)}


def _free(order: list[Node], axes: Axes, answers: Answers) -> Axes:
    """What depends on no token (learnt positions) has the positions of what it is added to, where all uses agree."""
    found: Axes = {}
    for node in order:
        for number, known in (axes.get(node) or found.get(node) or {}).items():
            for slot, (child, given) in enumerate(node.next_functions):
                if child is None or child in axes or not child.next_functions:
                    continue
                shapes = shape_of(node, number), shape_of(child, given)
                here = tuple(_below(node, slot, axis, *shapes, answers) for axis in known)
                new = tuple(axis for axis in here if axis is not None)
                before = found.setdefault(child, {}).get(given)
                kept = new if before is None else tuple(one for one in before if any(one.alike(two) for two in new))
                found[child][given] = kept
    return found


def _below(node: Node, slot: int, axis: Axis, out: Shape | None, given: Shape | None, answers: Answers) -> Axis | None:
    rule = RULES.get(node.name())
    if rule is None or axis.at is None or out is None or given is None:
        return None
    place = rule(Step(node, slot, axis.at, out, given, len(axis.labels), answers))
    return Axis(place, axis.labels) if isinstance(place, Examples) else None


@dataclass(frozen=True)
class _Input:
    """One input of an operation that depends on tokens."""

    slot: int
    shape: Shape
    axes: tuple[Axis, ...]


def _of_output(node: Node, number: int, axes: Axes, orders: list[Tensor], answers: Answers) -> tuple[Axis, ...]:
    out = shape_of(node, number)
    inputs = list(_inputs(node, axes))
    if not out or any(each.shape is None for each in inputs):
        return ()
    found: list[Axis] = []
    for axis in _candidates(node, out, inputs, orders, answers):
        if not any(axis.alike(other) for other in found):
            found.append(axis)
    return tuple(found)


def _inputs(node: Node, axes: Axes) -> Iterator[_Input]:
    for slot, (child, number) in enumerate(node.next_functions):
        if child is not None and child in axes:
            yield _Input(slot, shape_of(child, number) or (), axes[child].get(number, ()))


def _candidates(node: Node, out: Shape, inputs: list[_Input], orders: list[Tensor], answers: Answers) -> Iterable[Axis]:
    name = node.name()
    whole = [axis for axis in inputs[0].axes if axis.at is None]
    for axis in whole:  # all of it is of one position
        if all(any(other.alike(axis) for other in each.axes) for each in inputs):
            yield axis
    if name == INDEX_ADD:
        yield from _added(node, out, inputs, orders, answers)
        return
    for each in inputs:
        for axis in each.axes:
            if axis.at is None:
                continue
            special = _special(node, out, each, axis, answers)
            if special is not None:
                yield special
                continue
            for place in _above(node, out, each, axis, answers):
                if all(_agrees(node, out, other, place, axis, answers) for other in inputs):
                    yield Axis(place, axis.labels)


def _above(node: Node, out: Shape, given: _Input, axis: Axis, answers: Answers) -> Iterator[Examples]:
    """Ways of lying in the output that lead to the input's."""
    rule, count = RULES.get(node.name()), len(axis.labels)
    if rule is None or axis.at is None or not count:
        return
    for dim, length in enumerate(out):
        if not length or length % count:
            continue
        rest = length // count
        if rest == 1:
            befores: list[int] = [1]
        elif rule is reshaped:
            befores = [1, 0, *(before for before in range(2, rest) if rest % before == 0)]
        else:
            befores = [axis.at.before]
        for before in befores:
            place = Examples(dim, before)
            if rule(Step(node, given.slot, place, out, given.shape, count, answers)) == axis.at:
                yield place


def _agrees(node: Node, out: Shape, other: _Input, place: Examples, axis: Axis, answers: Answers) -> bool:
    """Whether another input's slices are those of the same positions, or everybody's."""
    found = RULES[node.name()](Step(node, other.slot, place, out, other.shape, len(axis.labels), answers))
    if found is SHARED:
        return True
    return isinstance(found, Examples) and any(each.alike(Axis(found, axis.labels)) for each in other.axes)


def _special(node: Node, out: Shape, given: _Input, axis: Axis, answers: Answers) -> Axis | None:
    """Operations that take some of the positions."""
    name, at = node.name(), axis.at
    assert at is not None
    step = Step(node, given.slot, at, out, given.shape, len(axis.labels), answers)
    if name == SELECT and step.saved("dim") == [at.dim]:
        label = axis.rows(given.shape[at.dim])[_signed(step.asked("index"))]
        return Axis(None, label[None])
    if name == SLICE and step.saved("dim") == [at.dim] and out[at.dim] != given.shape[at.dim]:
        start, end, stride = (_signed(step.asked(part)) for part in ("start", "end", "step"))
        labels = axis.rows(given.shape[at.dim])[start:end:stride]
        return Axis(Examples(at.dim, 1), labels) if len(labels) == out[at.dim] else None
    if name == INDEX:
        return _picked(list(step.asked("indices")), given.shape, axis)
    return None


def _picked(indices: list[Any], given: Shape, axis: Axis) -> Axis | None:
    """Rows by their numbers, each with the label of where it was."""
    assert axis.at is not None
    by_dim: dict[int, Tensor] = {}
    dim = 0
    for index in indices:
        if index is None:
            dim += 1
        elif index.dtype == torch.bool:
            for part in index.nonzero(as_tuple=True):
                by_dim[dim] = part
                dim += 1
        else:
            by_dim[dim] = index
            dim += 1
    dims = sorted(by_dim)
    if not dims or any(by_dim[dim].dim() != 1 for dim in dims) or axis.at.dim not in by_dim:
        return None
    if len({len(by_dim[dim]) for dim in dims}) > 1:
        return None
    rows = axis.rows(given[axis.at.dim])
    labels = rows[by_dim[axis.at.dim].to(rows.device)]
    return Axis(Examples(dims[0] if dims[-1] - dims[0] < len(dims) else 0, 1), labels)


def _added(node: Node, out: Shape, inputs: list[_Input], orders: list[Tensor], answers: Answers) -> Iterator[Axis]:
    """Rows added to others by number, if those are of the same positions: what experts give back.

    Where the others are a constant, their rows have whichever order of positions the added ones agree with.
    """
    dim = _signed(node._saved_dim) % len(out)
    index = answers[node, "_saved_index"] = node._saved_index
    base = next((each for each in inputs if each.slot == 0), None)
    source = next((each for each in inputs if each.slot > 0), None)
    if source is None:
        return
    places = [(order, before) for order in orders for before in (0, 1) if out[dim] % len(order) == 0]
    whole = [Axis(Examples(dim, 1 if out[dim] == len(order) else before), order) for order, before in places]
    for axis in source.axes:
        if axis.at is not None and axis.at.dim != dim:
            continue
        labels = axis.rows(source.shape[dim])
        for known in whole if base is None else base.axes:
            is_along = known.at is not None and known.at.dim == dim
            if is_along and torch.equal(known.rows(out[dim])[index.to(labels.device)], labels):
                yield known


def _signed(number: int) -> int:
    return number if number < 2**63 else number - 2**64
