"""Where the parameters enter a computation: their uses, read off the autograd graph of one forward pass.

A rule belongs to an operation, not to a layer type. So attention's projections, recurrent cells, layers called by
function, reused modules, tied weights, adapters and checkpointed layers need no rules of their own: whatever a
model is called, its graph holds matrix products, convolutions, lookups, normalisations and broadcast sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge

from upweight.errors import InputError

Node = Any
"""An autograd node; torch offers its saved tensors as attributes ``_saved_…``."""

VIEWS = frozenset(
    {
        "TBackward0",
        "TransposeBackward0",
        "PermuteBackward0",
        "ViewBackward0",
        "UnsafeViewBackward0",
        "ReshapeAliasBackward0",
        "UnsqueezeBackward0",
        "SqueezeBackward0",
        "SqueezeBackward1",
        "SliceBackward0",
        "SelectBackward0",
        "SplitBackward0",
        "SplitWithSizesBackward0",
        "UnsafeSplitBackward0",
        "CloneBackward0",
        "AliasBackward0",
        "IndexPutBackward0",
    }
)
"""Operations between a parameter and its use that only arrange its entries, among fixed ones in an index_put."""
CAST = "ToCopyBackward0"
"""To another precision, which arranges nothing."""

REENTRANT = "CheckpointFunctionBackward"


@dataclass(frozen=True, eq=False)
class Use:
    """A node with a parameter, or an arrangement of its entries, in one of its inputs.

    Attributes
    ----------
    name
        The parameter.
    node, slot
        The operation, and which of its inputs.
    chain
        Names of the operations between, nearest to the node first, casts left out.
    edge
        Where the arranged parameter leaves the chain, to pull gradients back through it.
    """

    name: str
    node: Node
    slot: int
    chain: tuple[str, ...]
    edge: GradientEdge

    @property
    def kind(self) -> str:
        """The operation's name."""
        return self.node.name()


def uses(roots: list[Tensor], leaves: Mapping[str, Tensor], unbatched: frozenset[tuple[str, str]]) -> Iterator[Use]:
    """Every use of every leaf, in a fixed order.

    Parameters
    ----------
    unbatched
        Pairs (parameter, operation) known not to depend on the examples, such as a lookup of positions: they count
        as part of the chain, and the operation after them as the use.

    Raises
    ------
    InputError
        If a re-entrant checkpoint hides what is inside it.
    """
    names = {id(leaf): name for name, leaf in leaves.items()}
    seen: set[Node] = set()
    stack = [root.grad_fn for root in reversed(roots) if root.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.name() == REENTRANT:
            raise InputError(
                "model: it holds torch.utils.checkpoint with use_reentrant=True, which hides the parameters inside "
                "from differentiation by name; set use_reentrant=False, which costs the same"
            )
        for slot, (child, number) in enumerate(node.next_functions):
            if child is None:
                continue
            found = _source(child, names, unbatched)
            if found is None:
                stack.append(child)
            else:
                yield Use(found[0], node, slot, found[1], GradientEdge(child, number))


def _source(node: Node, names: Mapping[int, str], unbatched: frozenset[tuple[str, str]]) -> tuple[str, Any] | None:
    """The leaf whose entries this node arranges, and the operations on the way; None if it does more."""
    chain: list[str] = []
    lookups: list[str] = []
    while True:
        variable = getattr(node, "variable", None)
        if variable is not None:
            name = names.get(id(variable))
            if name is None or any((name, kind) not in unbatched for kind in lookups):
                return None
            return name, tuple(chain)
        kind, below = node.name(), [child for child, _ in node.next_functions if child is not None]
        if len(below) != 1:
            return None
        if kind == CAST:
            node = below[0]
            continue
        if kind not in VIEWS:
            if not any(kind == other for _, other in unbatched):
                return None
            lookups.append(kind)
        chain.append(kind)
        node = below[0]
