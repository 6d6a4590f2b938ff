"""The GGN as a matrix from the rows of the outputs' Jacobian, by factors, in one pass.

In a layer whose input a takes part once for each example, row o of the Jacobian is b_o ⊗ a, so that the block of two
such layers is Σ_i M_i ⊗ a_i a'_iᵀ with M = BᵀΛB': one matrix product of pairs of outputs with pairs of inputs, whatever
the number of the model's outputs. Of a layer and itself both are symmetric, which leaves a quarter. Of other parameters
the rows are formed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Batch, batch_length
from upweight.gradients import Gradients
from upweight.gradients.autograd import output_derivatives
from upweight.gradients.output_curvature import softmax_of
from upweight.gradients.terms import Outer
from upweight.losses import Loss
from upweight.objective import Objective

Form = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Part:
    """A block of the Jacobian.

    Attributes
    ----------
    left
        b_o of every output, or the rows themselves.
    right
        a, the same for every output; None where ``left`` are the rows.
    """

    left: Float[Tensor, "b o r"]
    right: Float[Tensor, "b c"] | None

    @property
    def form(self) -> Form:
        """Lengths of both sides; 0 in place of the second where the rows are given."""
        return self.left.shape[2], 0 if self.right is None else self.right.shape[1]

    @property
    def size(self) -> int:
        """Parameters of the block."""
        return self.left.shape[2] * (1 if self.right is None else self.right.shape[1])

    def rows(self, left: Float[Tensor, "b o r"]) -> Float[Tensor, "b o k"]:
        """The rows, or those with another left side."""
        return left if self.right is None else (left.unsqueeze(-1) * self.right[:, None, None]).flatten(2)


class Blocks:
    """Σ J_iᵀΛ_iJ_i, block by block; each pair of outputs and each pair of inputs of a layer once.

    A batch may have the rows of a part that others have as factors: there is a sum for each pair of forms.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int, Form, Form], Tensor] = {}
        self._sizes: list[int] = []

    def add(self, parts: list[Part], curved: Callable[[Tensor], Tensor]) -> None:
        """A batch; ``curved`` is w_i Λ_i over the outputs."""
        self._sizes = [part.size for part in parts]
        for j, second in enumerate(parts):
            image = curved(second.left)
            for i, first in enumerate(parts[: j + 1]):
                left, right = _sides(first, second, image, same=i == j)
                key = i, j, first.form, second.form
                if key not in self._sums:
                    self._sums[key] = left.new_zeros(left.shape[1], right.shape[1])
                self._sums[key].addmm_(left.T, right)

    def matrix(self) -> Float[Tensor, "p p"]:
        """The whole, block after block."""
        starts = [sum(self._sizes[:i]) for i in range(len(self._sizes))]
        whole = next(iter(self._sums.values())).new_zeros(sum(self._sizes), sum(self._sizes))
        places = [slice(start, start + size) for start, size in zip(starts, self._sizes, strict=True)]
        for (i, j, *forms), found in self._sums.items():
            block = self._block(found, i == j, *forms)
            whole[places[i], places[j]] += (block + block.T) / 2 if i == j else block
            if i != j:
                whole[places[j], places[i]] += block.T
        return whole

    def _block(self, found: Tensor, same: bool, first: Form, second: Form) -> Tensor:
        (r, c), (s, d) = first, second
        if not c or not d:
            return found
        if same:
            found = found[_places(r).flatten()][:, _places(c).flatten()]
        return found.reshape(r, s, c, d).transpose(1, 2).reshape(r * c, s * d)


def _sides(first: Part, second: Part, image: Tensor, *, same: bool) -> tuple[Tensor, Tensor]:
    """Two matrices whose product over rows is the block of two parts, pairs of outputs by pairs of inputs."""
    if first.right is None or second.right is None:
        return first.rows(first.left).flatten(0, 1), second.rows(image).flatten(0, 1)
    middle = first.left.mT @ image
    inputs = first.right[:, :, None] * second.right[:, None, :]
    if not same:
        return middle.flatten(1), inputs.flatten(1)
    r, c = (torch.triu_indices(size, size) for size in (middle.shape[1], inputs.shape[1]))
    return middle[:, r[0], r[1]], inputs[:, c[0], c[1]]


def _places(size: int) -> Int[Tensor, "size size"]:
    """Where each pair, in either order, stands among the pairs in order."""
    found = torch.zeros(size, size, dtype=torch.long)
    first, second = torch.triu_indices(size, size)
    found[first, second] = found[second, first] = torch.arange(len(first))
    return found


def jacobian(objective: Objective, batch: Batch) -> tuple[list[Part], Tensor, Gradients]:
    """The parts of a batch's Jacobian, its outputs, and factors that know the blocks."""
    function, count = objective.engine.function, batch_length(batch)
    with torch.no_grad():
        outputs = function.outputs_of(objective.params, batch)
    width = outputs[0].numel()
    found = []
    for number in range(width):
        units = torch.zeros_like(outputs).reshape(count, width)
        units[:, number] = 1
        found.append(function.each(objective.params, batch, units.reshape(outputs.shape), compacted=False))
    parts = []
    for blocks in zip(*(each.blocks for each in found), strict=True):
        terms = [block.terms[0] for block in blocks if len(block.terms) == 1]
        outers = [term for term in terms if isinstance(term, Outer) and term.left.shape[1] == 1]
        if len(outers) == width and all(torch.equal(outers[0].right, term.right) for term in outers[1:]):
            parts.append(Part(torch.stack([term.left[:, 0] for term in outers], 1), outers[0].right[:, 0]))
        else:
            parts.append(Part(torch.stack([block.materialize().flatten(1) for block in blocks], 1), None))
    return parts, outputs, found[0]


def curvature_of(
    objective: Objective, outputs: Tensor, batch: Batch, weights: Float[Tensor, " b"]
) -> Callable[[Float[Tensor, "b o k"]], Float[Tensor, "b o k"]]:
    """w_i Λ_i over the flattened outputs."""
    loss = objective.loss
    assert isinstance(loss, Loss)
    soft = softmax_of(loss, outputs, batch)
    if soft is None:
        flat = outputs.reshape(len(outputs), -1)
        _, matrices = output_derivatives(lambda z: loss.of_outputs(z.reshape(outputs.shape), batch), flat)
        matrices = weights[:, None, None] * matrices
        return lambda left: matrices @ left
    p, mass = soft[0].unsqueeze(-1), (weights.reshape(-1, *[1] * (soft[1].dim() - 1)) * soft[1])[..., None, None]

    def curved(left: Tensor) -> Tensor:
        wide = left.reshape(*outputs.shape, left.shape[-1])
        return (wide - (p * wide).sum(-2, keepdim=True)).mul_(p).mul_(mass).reshape(left.shape)

    return curved


def order(factors: Gradients) -> Int[Tensor, " p"]:
    """Positions in the blocks, one after the other, of θ's entries."""
    matrices, start = [], 0
    for block in factors.blocks:
        size = block.shape.rows * block.shape.columns
        places = torch.arange(start, start + size, dtype=torch.float64)
        matrices.append(places.reshape(1, block.shape.rows, block.shape.columns))
        start += size
    return factors.vectors(matrices)[0].long()


@dataclass(frozen=True)
class Work:
    """Operations of an example beside its passes, and numbers that it holds."""

    flops: float
    numbers: int


def work(parts: list[Part]) -> Work:
    """Counted from the parts of one example."""
    flops, numbers = 0.0, sum(part.left.numel() // len(part.left) for part in parts)
    for j, second in enumerate(parts):
        for i, first in enumerate(parts[: j + 1]):
            outputs = first.left.shape[1]
            if first.right is None or second.right is None:
                flops += 2.0 * outputs * first.size * second.size
                numbers = max(numbers, 2 * outputs * (first.size + second.size))
                continue
            pairs = first.left.shape[2] * second.left.shape[2]
            flops += 2.0 * outputs * pairs + first.size * second.size * (0.5 if i == j else 2.0)
            numbers = max(numbers, 2 * (pairs + first.right.shape[1] * second.right.shape[1]))
    return Work(flops, numbers)
