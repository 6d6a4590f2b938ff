"""From the uses of a parameter to the terms of its block: orientation, biases as columns, several uses as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from upweight.gradients.blocks import Shape
from upweight.gradients.graph import Use
from upweight.gradients.rules import RULES, Context, Examples
from upweight.gradients.terms import Direct, Outer, Term

MATRIX = ("AddmmBackward0", "MmBackward0")
TRANSPOSITIONS = ("TBackward0", "TransposeBackward0")
RESHAPES = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0")


def multiplies(use: Use) -> bool:
    """Whether the parameter is the matrix of a product."""
    return use.kind in MATRIX and use.slot == (2 if use.kind == "AddmmBackward0" else 1)


def needs_transposition(use: Use) -> bool:
    """Whether the term's matrix is the parameter's transpose: a product sees [in, out], its term is [out, in]."""
    if not multiplies(use):
        return False
    return sum(kind in TRANSPOSITIONS for kind in use.chain) % 2 == 0


def arranged(use: Use) -> bool:
    """Whether more than a transposition stands between the parameter and its use."""
    return bool(use.chain) and not (multiplies(use) and all(kind in TRANSPOSITIONS for kind in use.chain))


def joinable(use: Use) -> bool:
    """Whether a bias could be one more column of the parameter in this use."""
    if arranged(use):
        return False
    if use.kind in MATRIX:
        return multiplies(use)
    return use.kind == "ConvolutionBackward0" and use.slot == 1 and _ordinary(use.node)


def _ordinary(node: Any) -> bool:
    return int(node._saved_groups) == 1 and not node._saved_transposed


def joins(weight: Use, bias: Use, gradients: Mapping[Any, Tensor]) -> bool:
    """Whether ``bias`` is added by the operation that multiplies by ``weight``, or right after it.

    A product and an addition stand apart where the input isn't contiguous, as the patches of a vision transformer
    aren't. Then the gradients at both (``gradients``, of some seed) must be the same: nothing else reads the product.
    """
    if not joinable(weight) or bias.chain:
        return False
    if bias.kind == "AddBackward0":
        return _added_to(weight, bias) and _alike(gradients.get(weight.node), gradients.get(bias.node))
    slot = {"AddmmBackward0": 0, "ConvolutionBackward0": 2}.get(weight.kind)
    return bias.node is weight.node and bias.slot == slot


def _added_to(weight: Use, bias: Use) -> bool:
    """Whether the other summand is the weight's product, in whatever shape."""
    if weight.kind != "MmBackward0" or (bias.slot == 1 and float(bias.node._saved_alpha) != 1):
        return False
    node = bias.node.next_functions[1 - bias.slot][0]
    while node is not None and node.name() in RESHAPES:
        node = node.next_functions[0][0]
    return node is weight.node


def _alike(product: Tensor | None, total: Tensor | None) -> bool:
    """Whether the rows of both are the same, in order."""
    if product is None or total is None or product.shape[-1] != total.shape[-1]:
        return False
    return product.numel() == total.numel() and torch.equal(product.reshape(-1), total.reshape(-1))


def term_of(use: Use, g: Tensor, examples: Examples, count: int, leaf: Tensor) -> Term | None:
    """The term of one use, in the entries of the parameter itself (transposed, where `needs_transposition`).

    In the precision of θ (``leaf``), whatever the operation's is.
    """
    rule = RULES.get(use.kind)
    if rule is None:
        return None
    g = g.to(leaf)
    if not arranged(use):
        with torch.no_grad():
            found = rule(use, g, Context(count, examples, leaf.shape))
        return None if found is None else found.detach()  # saved inputs belong to the graph
    number = use.edge.output_nr
    described = use.edge.node._input_metadata[number]
    seen = torch.Size(described.shape)
    term = rule(use, g, Context(count, examples, seen))
    if term is None:
        return None
    values = term.materialize()
    if multiplies(use):
        values = values.mT  # the arranged parameter is [in, out]
    (pulled,) = torch.autograd.grad(
        [use.edge],
        [leaf],
        [values.reshape(count, *seen).to(described.dtype)],
        is_grads_batched=True,
        retain_graph=True,
    )
    if needs_transposition(use):
        pulled = pulled.mT
    rows = pulled.shape[1] if pulled.dim() > 1 else 1
    return Direct(pulled.reshape(count, rows, -1).detach())


def oriented(use: Use, term: Term, shape: Shape) -> Term:
    """The term as the block stores it: uses of one parameter may differ in which side is the output's."""
    if needs_transposition(use) != shape.transposed:
        # Not as factors with sides exchanged: inputs and gradients must not mix in one side's statistics.
        return Direct(term.materialize().mT)
    if isinstance(term, Direct):  # a rule for broadcasts gives a column of all entries
        return term if term.shape[0] == shape.rows else Direct(term.values.reshape(len(term.values), shape.rows, -1))
    return term


def with_ones(term: Term) -> Term:
    """The term of a weight with its bias, which is a column whose right factor is 1."""
    assert isinstance(term, Outer)
    ones = term.right.new_ones(*term.right.shape[:2], 1)
    return Outer(term.left, torch.cat([term.right, ones], dim=2))


def merged(terms: list[Term]) -> tuple[Term, ...]:
    """Outer terms of several uses as one term with more positions; sums of gradients as one."""
    outer = [term for term in terms if isinstance(term, Outer)]
    direct = [term for term in terms if isinstance(term, Direct)]
    merged: list[Term] = [term for term in terms if not isinstance(term, Outer | Direct)]
    if len(outer) == 1:
        merged += outer
    elif outer:
        merged.append(Outer(*(torch.cat([getattr(term, side) for term in outer], dim=1) for side in ("left", "right"))))
    if direct:
        total = direct[0].values
        for term in direct[1:]:
            total = total + term.values
        merged.append(Direct(total))
    return tuple(merged)
