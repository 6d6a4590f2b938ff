"""The form of a graph, by which what was found in one batch's is known of the next one's without looking again.

Two graphs are of one form if a walk from the values down meets operations of the same names, with outputs of the same
shapes, that take the same outputs of each other and hold the same parameters. Operations are objects of their batch, so
what is kept speaks of them by their places in that walk. What rules asked of an operation beside its shapes (which
dimension is summed, say) is asked again, and must be answered as before; where they asked for tensors, whose values are
a batch's own, nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge

from upweight.errors import SlowPathWarning, warn
from upweight.gradients.graph import Node, Use
from upweight.gradients.places import Answers
from upweight.gradients.rules import Examples

MOST = 16
"""Forms that are kept: one for each length of padded batches, say."""
LOOKED_AT = 64
"""Batches after which it is said if more than half of them had a form of their own."""

Key = tuple[Any, ...]
Found = list[tuple[Use, Examples | None]]
"""The uses of parameters, and how the examples lie in the output of each, where the graph proves it."""


def walked(root: Tensor, leaves: Mapping[str, Tensor]) -> tuple[list[Node], Key]:
    """The operations that ``root`` was made by, each once, in an order that is their form's own; and the form."""
    names = {id(leaf): name for name, leaf in leaves.items()}
    nodes: list[Node] = [] if root.grad_fn is None else [root.grad_fn]
    places = dict.fromkeys(nodes, 0)
    key: list[Any] = [root.output_nr, len(root)]
    for node in nodes:  # they grow on the way
        below = node.next_functions
        if not below:
            key.append(names.get(id(getattr(node, "variable", None))))
        for child, number in below:
            place = None if child is None else places.get(child)
            if place is None and child is not None:
                place = places[child] = len(nodes)
                nodes.append(child)
            key += (place, number)
        key += (node.name(), *(tuple(output.shape) for output in getattr(node, "_input_metadata", ())))
    return nodes, tuple(key)


@dataclass(frozen=True)
class _Use:
    """A `Use` with its way of lying, its operations by their places."""

    name: str
    node: int
    slot: int
    chain: tuple[str, ...]
    edge: tuple[int, int]
    at: Examples | None

    def among(self, nodes: list[Node]) -> tuple[Use, Examples | None]:
        """The same in another graph."""
        place, number = self.edge
        return Use(self.name, nodes[self.node], self.slot, self.chain, GradientEdge(nodes[place], number)), self.at


@dataclass(frozen=True)
class _Kept:
    uses: tuple[_Use, ...]
    answers: tuple[tuple[int, str, Any], ...]


class Forms:
    """What was found in graphs, by their form; no graph and no tensor is held."""

    def __init__(self) -> None:
        self._kept: dict[Key, _Kept] = {}
        self._asked = self._unknown = 0

    def known(self, key: Key, nodes: list[Node]) -> Found | None:
        """What was found in a graph of this form, in the operations of this one; None if it must be looked for."""
        kept = self._kept.get(key)
        self._asked, self._unknown = self._asked + 1, self._unknown + (kept is None)
        if self._asked == LOOKED_AT and 2 * self._unknown > LOOKED_AT:
            warn(
                f"per-example gradients: {self._unknown} of the first {LOOKED_AT} batches had a graph of a form of "
                "their own, so each is read anew (some milliseconds); batches of one shape share what is found",
                SlowPathWarning,
            )
        if kept is None or any(getattr(nodes[place], name, None) != value for place, name, value in kept.answers):
            return None
        return [use.among(nodes) for use in kept.uses]

    def keep(self, key: Key, nodes: list[Node], found: Found, answers: Answers) -> None:
        """Keep what was found, unless it hangs on the values of tensors."""
        if any(_holds_tensors(value) for value in answers.values()):
            return
        places = {node: place for place, node in enumerate(nodes)}
        uses = tuple(
            _Use(use.name, places[use.node], use.slot, use.chain, (places[use.edge.node], use.edge.output_nr), at)
            for use, at in found
        )
        if len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Kept(uses, tuple((places[node], name, value) for (node, name), value in answers.items()))


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, Iterable) and any(isinstance(one, Tensor) for one in value))
