"""Per-example gradients parted by position of the input: what each token of an example adds to its gradient.

The gradient of a parameter is a sum over the positions through whose activations it flows, Σ_t g_t ⊗ a_t of a layer; a
token's part is its own position's terms. Pairs of example and position take the place of examples in the terms of
`upweight.gradients.terms`; parameters that act at no one position are in a remainder by example, with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Batch, tensors
from upweight.gradients.assemble import arranged, multiplies, needs_transposition, with_ones
from upweight.gradients.blocks import Shape
from upweight.gradients.graph import Node, Use
from upweight.gradients.rules import RULES, Context, Examples
from upweight.gradients.terms import Direct, Lookup, Outer, Term
from upweight.parameters import Layout

LOOKUP = "EmbeddingBackward0"
TOKENS = ("input_ids", "decoder_input_ids")
"""Keys of a batch that hold tokens, in the order of their positions."""
MASKS = {"input_ids": "attention_mask", "decoder_input_ids": "decoder_attention_mask"}
"""Keys of a batch that say which tokens are padding, by the key of these."""
MADE = "made by the model"
"""The field of tokens that are looked up in the tokens' own table and aren't the batch's, as shifted labels are."""


@dataclass(frozen=True)
class Field:
    """Tokens of a batch: positions ``start`` to ``stop`` of all."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Through:
    """Gradients of an arrangement of a parameter's entries, whose inner products are with matrices arranged so.

    Attributes
    ----------
    term
        The gradients, in the arrangement's entries.
    push, pull
        The arrangement of k matrices of the parameter's block, in the term's shape; gradients back to the block's.
    """

    term: Term
    push: Callable[[Float[Tensor, "k r c"]], Float[Tensor, "k _ _"]]
    pull: Callable[[Float[Tensor, "b _ _"]], Float[Tensor, "b r c"]]

    def inner(self, matrices: Float[Tensor, "k r c"]) -> Float[Tensor, "k b"]:
        """Inner products of k matrices with every gradient."""
        return self.term.inner(self.push(matrices))

    def materialize(self) -> Float[Tensor, "b r c"]:
        """The gradients themselves."""
        return self.pull(self.term.materialize())

    def take(self, rows: Tensor | slice) -> Through:
        """Some of them."""
        return replace(self, term=self.term.take(rows))


TokenTerm = Outer | Lookup | Direct | Through


@dataclass(frozen=True)
class TokenBlock:
    """One parameter's gradients: by pairs of example and position, and what has no position by example."""

    shape: Shape
    tokens: tuple[TokenTerm, ...]
    rest: tuple[Term, ...]


@dataclass(frozen=True)
class TokenGradients:
    """Gradients of a batch by position; over positions and remainder they sum to the examples' own.

    Attributes
    ----------
    blocks
        In the order of θ's parameters.
    examples, time
        Sizes of the batch.
    fields
        Which positions are whose.
    remainder
        Parameters with uses at no one position, with the reason.
    """

    layout: Layout
    blocks: tuple[TokenBlock, ...]
    examples: int
    time: int
    fields: tuple[Field, ...]
    remainder: Mapping[str, str]

    def inner(self, vectors: Float[Tensor, "k p"]) -> tuple[Float[Tensor, "k b t"], Float[Tensor, "k b"]]:
        """Inner products of k vectors with every position's part, and with the remainder."""
        named, k = self.layout.unflatten(vectors), len(vectors)
        tokens = vectors.new_zeros(k, self.examples * self.time)
        rest = vectors.new_zeros(k, self.examples)
        for block in self.blocks:
            matrices = block.shape.matrices(named, k)
            for term in block.tokens:
                tokens += term.inner(matrices)
            for each in block.rest:
                rest += each.inner(matrices)
        return tokens.view(k, self.examples, self.time), rest

    def materialize(self) -> tuple[Float[Tensor, "b t p"], Float[Tensor, "b p"]]:
        """The parts themselves, and the remainder."""
        parts: list[dict[str, Tensor]] = [{}, {}]
        like = self.layout
        for block in self.blocks:
            size = (block.shape.rows, block.shape.columns)
            for named, terms, count in (
                (parts[0], block.tokens, self.examples * self.time),
                (parts[1], block.rest, self.examples),
            ):
                total: Tensor | None = None
                for term in terms:
                    made = term.materialize()
                    total = made if total is None else total + made
                if total is not None:
                    named.update(block.shape.named(total))
                else:
                    named.update(dict.fromkeys(block.shape.names, torch.zeros(())))
                    named.update(block.shape.named(self._zeros(count, size)))
        tokens, rest = (torch.cat([named[name] for name in like.names], dim=1) for named in parts)
        return tokens.view(self.examples, self.time, -1), rest

    def _zeros(self, count: int, size: tuple[int, int]) -> Tensor:
        like = next(term for block in self.blocks for term in (*block.tokens, *block.rest))
        found = like.term if isinstance(like, Through) else like
        values = found.values if isinstance(found, Direct) else found.right
        return values.new_zeros(count, *size)

    def sums(self, vector: Float[Tensor, " p"]) -> dict[str, Float[Tensor, " b"]]:
        """Inner products of a vector with the examples' gradients, block by block."""
        found: dict[str, Tensor] = {}
        for block in self.blocks:
            matrices = block.shape.matrices(self.layout.unflatten(vector[None]), 1)
            total = vector.new_zeros(self.examples)
            for term in block.tokens:
                total += term.inner(matrices).view(self.examples, -1).sum(1)
            for each in block.rest:
                total += each.inner(matrices)[0]
            found[block.shape.weight] = total
        return found

    def take(self, rows: Sequence[int]) -> TokenGradients:
        """Some of the examples."""
        chosen = torch.as_tensor(list(rows), dtype=torch.long)
        pairs = (chosen[:, None] * self.time + torch.arange(self.time)).flatten()
        blocks = tuple(
            TokenBlock(
                block.shape,
                tuple(term.take(pairs) for term in block.tokens),
                tuple(term.take(chosen) for term in block.rest),
            )
            for block in self.blocks
        )
        return replace(self, blocks=blocks, examples=len(chosen))


def token_term(
    use: Use, g: Tensor, pairs: Examples, count: int, leaf: Tensor, shape: Shape, joined: bool
) -> TokenTerm | None:
    """The terms of one use for every pair; None where its rule doesn't part them.

    ``joined``: whether the bias is one more column.
    """
    described = use.edge.node._input_metadata[use.edge.output_nr]
    seen = torch.Size(described.shape) if arranged(use) else leaf.shape
    with torch.no_grad():
        term = RULES[use.kind](use, g.to(leaf), Context(count, pairs, seen))
    if term is None:
        return None
    term = term.detach()
    width = shape.columns - (shape.bias is not None)
    if not arranged(use) and needs_transposition(use) == shape.transposed:
        if term.shape == (shape.rows, width):
            if shape.bias is None:
                return term
            return with_ones(term) if joined and isinstance(term, Outer) else None
        if isinstance(term, Direct) and shape.bias is None:  # a rule for broadcasts gives a column of all entries
            return Direct(term.values.reshape(len(term.values), shape.rows, -1))
    return None if shape.bias is not None else _through(use, term, leaf, shape, seen, described.dtype)


def _through(use: Use, term: Term, leaf: Tensor, shape: Shape, seen: torch.Size, dtype: torch.dtype) -> Through:
    is_arranged, is_matrix = arranged(use), multiplies(use)

    def push(matrices: Tensor) -> Tensor:
        k = len(matrices)
        values = shape.named(matrices)[shape.weight].reshape(k, *leaf.shape)
        if is_arranged:
            values = _pushed(use, leaf, values, seen, dtype)
        return (values.mT if is_matrix else values).reshape(k, *term.shape)

    def pull(gradients: Tensor) -> Tensor:
        count = len(gradients)
        values = (gradients.mT if is_matrix else gradients).reshape(count, *seen)
        if is_arranged:
            values = torch.autograd.grad(
                [use.edge], [leaf], [values.to(dtype)], is_grads_batched=True, retain_graph=True
            )[0]
        return shape.matrices({shape.weight: values}, count).detach()

    return Through(term, push, pull)


def _pushed(use: Use, leaf: Tensor, values: Tensor, seen: torch.Size, dtype: torch.dtype) -> Tensor:
    """Where k values of a parameter stand in its arrangement: the transpose of how its gradients are pulled back."""
    with torch.enable_grad():
        at = torch.zeros(seen, dtype=dtype, device=leaf.device, requires_grad=True)
        (pulled,) = torch.autograd.grad([use.edge], [leaf], [at], create_graph=True, retain_graph=True)
        (pushed,) = torch.autograd.grad(
            [pulled], [at], [values.to(pulled)], is_grads_batched=True, retain_graph=True, materialize_grads=True
        )
    return pushed.detach().to(values)


def token_lookups(
    nodes: Iterable[Node], batch: Batch, count: int, tables: Mapping[Node, str], asked: Sequence[str] | None
) -> tuple[dict[Node, Int[Tensor, " time"]], tuple[Field, ...]]:
    """The lookups of a batch's tokens ``[batch, time, features]`` with the labels of their positions, and the fields.

    Parameters
    ----------
    tables
        The parameter of each lookup.
    asked
        Keys of the batch that hold tokens (default: `TOKENS`, or the first that is looked up).
    """
    known = named_tokens(batch, count)
    keys = list(asked) if asked is not None else [key for key in TOKENS if key in known] or list(known)
    found = [node for node in nodes if node in tables and _is_table_of_sequences(node, count)]
    matches: dict[str, list[Node]] = {}
    for key in keys:
        mine = [node for node in found if _same(node._saved_indices, known[key])] if key in known else []
        if mine:
            matches[key] = mine
        if asked is None and mine and key not in TOKENS:
            break
    taken = {node for nodes in matches.values() for node in nodes}
    shared = {tables[node] for node in taken}
    further = [node for node in found if node not in taken and tables[node] in shared]
    if further and len({node._saved_indices.shape for node in further}) == 1:
        matches[MADE] = further
    lookups: dict[Node, Tensor] = {}
    fields: list[Field] = []
    start = 0
    for key, mine in matches.items():
        time = mine[0]._saved_indices.shape[1 if len(mine[0]._saved_indices) == count else 0]
        if key in known:
            time = known[key].shape[1]
        labels = torch.arange(start, start + time)
        lookups.update(dict.fromkeys(mine, labels))
        fields.append(Field(key, start, start + time))
        start += time
    return lookups, tuple(fields)


def time_first(node: Node, batch: Batch, count: int) -> bool:
    """Whether a lookup of a batch's tokens has the positions first, ``[time, batch]``."""
    indices = node._saved_indices
    if len(indices) != count:
        return True
    given = [each for each in named_tokens(batch, count).values() if _same(indices, each)]
    return bool(given) and indices.shape[0] == indices.shape[1] and _turned(indices, given[0])


def named_tokens(batch: Batch, count: int) -> dict[str, Tensor]:
    """Tensors of whole numbers ``[batch, time]``, by key or by place."""
    given: Any = batch.items() if isinstance(batch, Mapping) else enumerate(tensors(batch))
    return {
        str(key): value
        for key, value in given
        if isinstance(value, Tensor) and value.dim() == 2 and len(value) == count and not value.is_floating_point()
    }


def _is_table_of_sequences(node: Node, count: int) -> bool:
    indices = node._saved_indices
    return indices.dim() == 2 and count in indices.shape


def _same(indices: Tensor, given: Tensor) -> bool:
    """Whether these are the batch's tokens, as they are or with the positions first."""
    return _equal(indices, given) or _turned(indices, given)


def _equal(indices: Tensor, given: Tensor) -> bool:
    return indices.shape == given.shape and torch.equal(indices, given.to(indices))


def _turned(indices: Tensor, given: Tensor) -> bool:
    """Positions first; where tokens can't tell, by how they lie in memory."""
    if not _equal(indices.T, given):
        return False
    return not _equal(indices, given) or indices.stride() != given.stride()
