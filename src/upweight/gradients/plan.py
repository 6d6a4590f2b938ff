"""What the first batch settles of how per-example gradients are made: their blocks, and the way to each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from upweight.gradients.blocks import Shape
from upweight.gradients.rules import Examples
from upweight.parameters import Layout

Key = tuple[str, str, int]
"""A parameter, an operation, and which of its inputs: all uses alike share one way of holding examples."""


@dataclass(frozen=True)
class Plan:
    """How per-example gradients are made. It never changes: another is another plan.

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
    examples: Mapping[Key, Examples] = field(default_factory=dict)
    unbatched: frozenset[tuple[str, str]] = frozenset()
    slow: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def without(self, name: str, leaves: Mapping[str, Tensor], reason: str) -> Plan:
        """The plan with a parameter, and a bias that shares its block, moved to the slow way."""
        slow = dict(self.slow)
        shapes: list[Shape] = []
        for shape in self.shapes:
            if name not in shape.names:
                shapes.append(shape)
                continue
            shapes += [plain(part, leaves[part]) for part in shape.names]
            slow.update({part: reason for part in shape.names if part not in slow})
        return replace(self, shapes=tuple(shapes), slow=slow)


def plain(name: str, value: Tensor) -> Shape:
    """A parameter as a block of its own."""
    rows = value.shape[0] if value.dim() else 1
    return Shape(name, None, rows, value.numel() // max(rows, 1))


def unfactored(layout: Layout) -> Plan:
    """Every parameter as a block of its own, with no factors."""
    shapes: Iterable[tuple[str, tuple[int, ...]]] = zip(layout.names, layout.shapes, strict=True)
    found = []
    for (name, size), numbers in zip(shapes, layout.sizes, strict=True):
        rows = size[0] if len(size) else 1
        found.append(Shape(name, None, rows, numbers // max(rows, 1)))
    return Plan(tuple(found))
