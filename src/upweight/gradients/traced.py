"""Whose each row of an operation is, proved on the graph from the examples' values down.

Of the values ``[examples]`` entry i is example i's. An operation that works entry by entry, reduces or multiplies other
dimensions, or only arranges entries by their shapes, says where in its inputs the examples then lie, whatever the
numbers. So a walk from the values to the operations that hold parameters proves how these hold the examples, in every
batch anew, as the shapes of that batch have it. What takes rows by their values (``x[mask]``, sorting, pooling by a
matrix, index_add) proves nothing, and neither does an operation that has no rule here; then the gradients themselves
must tell (`upweight.gradients.owners`).
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from upweight.gradients.graph import Node
from upweight.gradients.places import RULES, Answers, Place, Shape, Step
from upweight.gradients.rules import Examples

Places = dict[Node, dict[int, Place]]
"""Of each operation, by the number of its output."""


def traced(root: Tensor, count: int, answers: Answers | None = None) -> dict[tuple[Node, int], Examples]:
    """Where ``count`` examples lie in the outputs of the operations that ``root`` was made by, as far as is proved.

    Parameters
    ----------
    root
        Values or outputs with the examples first.
    answers
        Takes down what was asked of operations beside their shapes: all that the result hangs on.
    """
    answers = {} if answers is None else answers
    if root.grad_fn is None:
        return {}
    places: Places = {root.grad_fn: {root.output_nr: Examples(0, 1)}}
    for node in in_order(root.grad_fn):
        for slot, (child, number) in enumerate(node.next_functions):
            if child is None:
                continue
            found = _through(node, slot, child, number, places, count, answers)
            known = places.setdefault(child, {})
            # Where a part of it is everybody's, or another's on another way, no row is one example's for certain.
            known[number] = found if known.get(number, found) == found else None
    return {
        (node, number): place
        for node, outputs in places.items()
        for number, place in outputs.items()
        if isinstance(place, Examples)
    }


def _through(node: Node, slot: int, child: Node, number: int, places: Places, count: int, answers: Answers) -> Place:
    """Where the examples lie in one input of an operation, as all its outputs have it."""
    rule, given = RULES.get(node.name()), shape_of(child, number)
    found: set[Place] = set()
    for output, place in places[node].items():
        out = shape_of(node, output)
        if isinstance(place, Examples):
            place = (
                None
                if rule is None or out is None or given is None
                else rule(Step(node, slot, place, out, given, count, answers))
            )
        found.add(place)
    return found.pop() if len(found) == 1 else None


def in_order(first: Node) -> Iterable[Node]:
    """Every node after all that use it."""
    waiting: dict[Node, int] = {}
    stack, seen = [first], {first}
    while stack:
        for child, _ in stack.pop().next_functions:
            if child is None:
                continue
            waiting[child] = waiting.get(child, 0) + 1
            if child not in seen:
                seen.add(child)
                stack.append(child)
    ready = [first]
    while ready:
        node = ready.pop()
        yield node
        for child, _ in node.next_functions:
            if child is not None:
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)


def shape_of(node: Node, number: int) -> Shape | None:
    """The shape of an operation's output, where it is known."""
    described = getattr(node, "_input_metadata", ())
    return tuple(described[number].shape) if number < len(described) else None
