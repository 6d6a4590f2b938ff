"""From the uses of a parameter to the terms of its block: orientation, biases as columns, several uses as one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from upweight.gradients.blocks import Shape
from upweight.gradients.graph import Use
from upweight.gradients.rules import RULES, Context, Examples
from upweight.gradients.terms import Direct, Outer, Term

MATRIX = ("AddmmBackward0", "MmBackward0")
TRANSPOSITIONS = ("TBackward0", "TransposeBackward0")


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
    if use.kind == "AddmmBackward0":
        return use.slot == 2
    return use.kind == "ConvolutionBackward0" and use.slot == 1 and _ordinary(use.node)


def _ordinary(node: Any) -> bool:
    return int(node._saved_groups) == 1 and not node._saved_transposed


def joins(weight: Use, bias: Use) -> bool:
    """Whether ``bias`` is added by the operation that multiplies by ``weight``."""
    slot = {"AddmmBackward0": 0, "ConvolutionBackward0": 2}.get(weight.kind)
    return joinable(weight) and bias.node is weight.node and bias.slot == slot and not bias.chain


def term_of(use: Use, g: Tensor, examples: Examples, count: int, leaf: Tensor) -> Term | None:
    """The term of one use, in the entries of the parameter itself (transposed, where `needs_transposition`)."""
    if not arranged(use):
        with torch.no_grad():
            found = RULES[use.kind](use, g, Context(count, examples, leaf.shape))
        return None if found is None else found.detach()  # saved inputs belong to the graph
    number = use.edge.output_nr
    seen = torch.Size(use.edge.node._input_metadata[number].shape)
    term = RULES[use.kind](use, g, Context(count, examples, seen))
    if term is None:
        return None
    values = term.materialize()
    if multiplies(use):
        values = values.mT  # the arranged parameter is [in, out]
    (pulled,) = torch.autograd.grad(
        [use.edge], [leaf], [values.reshape(count, *seen)], is_grads_batched=True, retain_graph=True
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
        return Direct(term.values.reshape(len(term.values), shape.rows, -1))
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
    if outer:
        sides = [torch.cat([getattr(term, side) for term in outer], dim=1) for side in ("left", "right")]
        merged.append(outer[0] if len(outer) == 1 else Outer(*sides))
    if direct:
        total = direct[0].values
        for term in direct[1:]:
            total = total + term.values
        merged.append(Direct(total))
    return tuple(merged)
