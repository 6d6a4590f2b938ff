"""One use of a parameter, as the factors of its per-example gradients; every product below works on factors.

Data layout, the same for every layer: a parameter is a matrix ``[r, c]``, and the gradient of example b is

- `Outer`: Σ_t left[b, t] ⊗ right[b, t]; t runs over positions, pixels, time steps and repeated uses;
- `Lookup`: Σ_t e(index[b, t]) ⊗ right[b, t], an embedding's: the left factors are unit vectors that are never made;
- `Direct`: the gradient itself ``[b, r, c]``, where it is no larger than its factors.

The maths here never sees a layer type. Contractions are chosen by counted multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.gradients.workspace import Workspace, pieces, rows_at_once


@dataclass(frozen=True)
class Outer:
    """Σ_t left ⊗ right."""

    left: Float[Tensor, "b t r"]
    right: Float[Tensor, "b t c"]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the parameter."""
        return self.left.shape[2], self.right.shape[2]

    @property
    def numbers(self) -> int:
        """Numbers held per example."""
        return self.left.shape[1] * (self.left.shape[2] + self.right.shape[2])

    def materialize(self) -> Float[Tensor, "b r c"]:
        """The gradients themselves."""
        return self.left.mT @ self.right

    def formed(self, workspace: Workspace) -> Direct:
        """The gradients themselves, in memory that is used again."""
        shape = (len(self.left), *self.shape)
        return Direct(torch.bmm(self.left.mT, self.right, out=workspace.empty(shape, self.left)))

    def inner(self, matrices: Float[Tensor, "k r c"]) -> Float[Tensor, "k b"]:
        """Inner product of k matrices with every example's gradient."""
        (b, t, r), (k, _, c) = self.left.shape, matrices.shape
        if t > 1 and k * t > k + t:  # k products with each of t outer products cost more than their sum and k more
            return Direct(self.materialize()).inner(matrices)
        parts = []
        for chunk in matrices.split(rows_at_once(b * t * min(r, c), self.left.device)):
            if r <= c:
                pushed = self.right.reshape(b * t, c) @ chunk.reshape(-1, c).T
                parts.append(torch.einsum("btkr,btr->kb", pushed.reshape(b, t, -1, r), self.left))
            else:
                pushed = self.left.reshape(b * t, r) @ chunk.transpose(0, 1).reshape(r, -1)
                parts.append(torch.einsum("btkc,btc->kb", pushed.reshape(b, t, -1, c), self.right))
        return torch.cat(parts)

    def combine(self, weights: Float[Tensor, "k b"]) -> Float[Tensor, "k r c"]:
        """k weighted sums of the gradients."""
        (b, t, r), c = self.left.shape, self.right.shape[2]
        if t > 1 and weights.shape[0] * t > weights.shape[0] + t:
            return Direct(self.materialize()).combine(weights)
        parts = []
        flat = self.right.reshape(b * t, c)
        for chunk in weights.split(rows_at_once(b * t * r, self.left.device)):
            weighted = chunk[:, :, None, None] * self.left
            parts.append((weighted.permute(0, 3, 1, 2).reshape(-1, b * t) @ flat).reshape(len(chunk), r, c))
        return torch.cat(parts)

    def norms(self) -> Float[Tensor, " b"]:
        """‖gradient‖² of every example."""
        t, r, c = self.left.shape[1], *self.shape
        if t == 1:
            return (self.left**2).sum((1, 2)) * (self.right**2).sum((1, 2))
        if t * (r + c) < r * c:
            return ((self.left @ self.left.mT) * (self.right @ self.right.mT)).sum((1, 2))
        return Direct(self.materialize()).norms()

    def squares(self) -> Float[Tensor, "r c"]:
        """Σ_b of the squared entries of the gradients: one product where t = 1, nothing is materialised."""
        count, positions, rows = self.left.shape
        if positions == 1:
            return (self.left[:, 0] ** 2).T @ self.right[:, 0] ** 2
        total = self.left.new_zeros(self.shape)
        for part in pieces(count, rows * self.right.shape[2], total.device):
            total += Direct(self.take(part).materialize()).squares()
        return total

    def take(self, rows: Tensor | slice) -> Outer:
        """Some of the examples."""
        return Outer(self.left[rows], self.right[rows])

    def detach(self) -> Outer:
        """The same numbers without a graph."""
        return Outer(self.left.detach(), self.right.detach())


@dataclass(frozen=True)
class Lookup:
    """Σ_t e(index) ⊗ right: rows of an embedding."""

    index: Int[Tensor, "b t"]
    right: Float[Tensor, "b t c"]
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the parameter."""
        return self.rows, self.right.shape[2]

    @property
    def numbers(self) -> int:
        """Numbers held per example."""
        return self.index.shape[1] * (1 + self.right.shape[2])

    def materialize(self) -> Float[Tensor, "b r c"]:
        """The gradients themselves."""
        b, _, c = self.right.shape
        out = self.right.new_zeros(b, self.rows, c)
        return out.scatter_add_(1, self.index[:, :, None].expand(-1, -1, c), self.right)

    def inner(self, matrices: Float[Tensor, "k r c"]) -> Float[Tensor, "k b"]:
        """Inner product of k matrices with every example's gradient: rows are looked up, not multiplied."""
        b, t, c = self.right.shape
        size = rows_at_once(b * t * c, self.right.device)
        parts = [torch.einsum("kbtc,btc->kb", chunk[:, self.index], self.right) for chunk in matrices.split(size)]
        return torch.cat(parts)

    def combine(self, weights: Float[Tensor, "k b"]) -> Float[Tensor, "k r c"]:
        """k weighted sums of the gradients."""
        c, flat = self.right.shape[2], self.index.reshape(-1)
        out = self.right.new_zeros(len(weights), self.rows, c)
        for row, weight in zip(out, weights, strict=True):
            row.index_add_(0, flat, (weight[:, None, None] * self.right).reshape(-1, c))
        return out

    def norms(self) -> Float[Tensor, " b"]:
        """‖gradient‖² of every example."""
        same = self.index[:, :, None] == self.index[:, None, :]
        return ((self.right @ self.right.mT) * same).sum((1, 2))

    def squares(self) -> Float[Tensor, "r c"]:
        """Σ_b of the squared entries of the gradients."""
        return Direct(self.materialize()).squares()

    def take(self, rows: Tensor | slice) -> Lookup:
        """Some of the examples."""
        return Lookup(self.index[rows], self.right[rows], self.rows)

    def detach(self) -> Lookup:
        """The same numbers without a graph."""
        return Lookup(self.index, self.right.detach(), self.rows)


@dataclass(frozen=True)
class Direct:
    """The gradients themselves."""

    values: Float[Tensor, "b r c"]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the parameter."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def numbers(self) -> int:
        """Numbers held per example."""
        return self.values.shape[1] * self.values.shape[2]

    def materialize(self) -> Float[Tensor, "b r c"]:
        """The gradients themselves."""
        return self.values

    def inner(self, matrices: Float[Tensor, "k r c"]) -> Float[Tensor, "k b"]:
        """Inner product of k matrices with every example's gradient."""
        return matrices.flatten(1) @ self.values.flatten(1).T

    def combine(self, weights: Float[Tensor, "k b"]) -> Float[Tensor, "k r c"]:
        """k weighted sums of the gradients."""
        return (weights @ self.values.flatten(1)).reshape(-1, *self.shape)

    def norms(self) -> Float[Tensor, " b"]:
        """‖gradient‖² of every example."""
        few = rows_at_once(self.numbers, self.values.device)
        if len(self.values) <= few:
            return (self.values**2).sum((1, 2))
        return torch.cat([(part**2).sum((1, 2)) for part in self.values.split(few)])

    def squares(self) -> Float[Tensor, "r c"]:
        """Σ_b of the squared entries of the gradients."""
        return (self.values**2).sum(0)

    def take(self, rows: Tensor | slice) -> Direct:
        """Some of the examples."""
        return Direct(self.values[rows])

    def detach(self) -> Direct:
        """The same numbers without a graph."""
        return Direct(self.values.detach())


Term = Outer | Lookup | Direct


def compact(term: Term) -> Term:
    """The form that holds fewest numbers: many positions of a small matrix are summed, few of a large one are not."""
    rows, columns = term.shape
    return term if term.numbers <= rows * columns else Direct(term.materialize())


def pair_work(term: Term) -> int:
    """Multiplications of an inner product with another example's gradient of the same form."""
    rows, columns = term.shape
    if isinstance(term, Direct):
        return rows * columns
    positions = term.right.shape[1]
    across = rows + columns if isinstance(term, Outer) else columns
    return min(positions**2 * across, rows * columns)


def gram(first: Term, second: Term) -> Float[Tensor, "m n"]:
    """Inner products of every gradient of one set with every gradient of another, of the same parameter."""
    if isinstance(first, Outer) and isinstance(second, Outer):
        t, s = first.left.shape[1], second.left.shape[1]
        if t == s == 1:
            found = first.left[:, 0] @ second.left[:, 0].T
            return found.mul_(first.right[:, 0] @ second.right[:, 0].T)
        rows, columns = first.shape
        if t * s * (rows + columns) <= rows * columns:
            return _by_positions(first, second)
    if isinstance(first, Lookup) and isinstance(second, Lookup):
        return _lookups(first, second)
    if isinstance(first, Lookup):
        return second.inner(first.materialize()) if not isinstance(second, Lookup) else _lookups(first, second)
    if isinstance(second, Lookup):
        return second.inner(first.materialize())
    return first.materialize().flatten(1) @ second.materialize().flatten(1).T


def _by_positions(first: Outer, second: Outer) -> Float[Tensor, "m n"]:
    """Σ_ts (left·left')(right·right'), without a gradient of either set."""
    (m, t, r), (n, s, c) = first.left.shape, second.right.shape
    other_left, other_right = second.left.reshape(n * s, r).T, second.right.reshape(n * s, c).T
    parts = []
    for rows in torch.arange(m, device=first.left.device).split(rows_at_once(t * n * s, first.left.device)):
        products = first.left[rows].reshape(-1, r) @ other_left
        products *= first.right[rows].reshape(-1, c) @ other_right
        parts.append(products.reshape(len(rows), t, n, s).sum((1, 3)))
    return torch.cat(parts)


def _lookups(first: Lookup, second: Lookup) -> Float[Tensor, "m n"]:
    """Only positions with the same row meet; the smaller side is written out in blocks."""
    size = rows_at_once(first.rows * first.shape[1], first.right.device)
    blocks = torch.arange(len(first.index), device=first.index.device).split(size)
    return torch.cat([second.inner(first.take(rows).materialize()) for rows in blocks])
