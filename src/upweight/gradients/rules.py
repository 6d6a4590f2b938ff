"""How each operation's per-example parameter gradient is made of its input and of the gradient at its output.

A rule gets the `Use`, the gradient at the operation's output, and how examples lie in it; it returns a term, or
None where it doesn't hold (then the parameter goes the slow way). Shapes follow `upweight.gradients.terms`. Gradient
and term are in the precision of θ; what an operation saved may have fewer bits, and is cast as it is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from upweight.gradients.graph import Use
from upweight.gradients.terms import Direct, Lookup, Outer, Term


@dataclass(frozen=True)
class Examples:
    """Where the examples are in a tensor: dimension ``dim`` holds ``before`` × examples × after entries.

    ``before`` is 1 where an example's rows stand together, and 0 where its rows are as far apart as they can be
    (sequence first). The dimension counts from the left.
    """

    dim: int
    before: int

    def fits(self, shape: torch.Size, count: int) -> bool:
        """Whether ``count`` examples can lie so in this shape."""
        if self.dim >= len(shape) or shape[self.dim] % count:
            return False
        rest = shape[self.dim] // count
        return self.before < 2 or rest % self.before == 0

    @property
    def further(self) -> int | None:
        """Another dimension that holds them too, whose place `split` leaves with length 1."""
        return None

    def slices(self, length: int) -> Tensor | None:
        """Which entry of the further dimension, which is so long, each of them is in; None where they have several."""
        return None

    def split(self, tensor: Tensor, count: int) -> Tensor:
        """The examples first, ``[count, rows, *others]``; the other dimensions keep their order."""
        if self.dim == 0 and (self.before == 1 or tensor.shape[0] == count):  # as they are: one view
            return tensor.reshape(count, tensor.shape[0] // count, *tensor.shape[1:])
        moved = tensor.movedim(self.dim, 0)
        rest = moved.shape[0] // count
        before = rest if self.before == 0 else self.before
        parted = moved.reshape(before, count, rest // before, *moved.shape[1:])
        return parted.movedim(1, 0).reshape(count, rest, *moved.shape[1:])


@dataclass(frozen=True)
class Context:
    """What a rule may ask for: the number of examples, where they are, and the shape that the operation sees."""

    count: int
    examples: Examples
    shape: torch.Size


TermRule = Callable[[Use, Tensor, Context], Term | None]


def by_rows(tensor: Tensor, at: Context, trailing: int) -> Tensor:
    """``[examples, rows, features]``: the last ``trailing`` dimensions are features, the others rows."""
    parted = at.examples.split(tensor, at.count)
    if trailing == 1 and parted.dim() == 3:
        return parted
    return parted.reshape(at.count, -1, math.prod(tensor.shape[tensor.dim() - trailing :]))


def matrix_product(use: Use, g: Tensor, at: Context) -> Term | None:
    """x @ w (+ b): a linear layer, or GPT-2's Conv1D. The term is that of wᵀ, ``[out, in]``."""
    adds = use.kind == "AddmmBackward0"
    weight_slot = 2 if adds else 1
    if adds and use.slot == 0:
        scale = float(use.node._saved_beta)
        return bias_term(use, g if scale == 1 else g * scale, at)
    if use.slot != weight_slot:
        return None
    x = use.node._saved_mat1 if adds else use.node._saved_self
    if adds and float(use.node._saved_alpha) != 1:
        g = g * float(use.node._saved_alpha)
    return Outer(by_rows(g, at, 1), by_rows(x.to(g), at, 1))


def bias_term(use: Use, g: Tensor, at: Context) -> Term | None:
    """A parameter broadcast along the other dimensions: the gradient is summed over them, example by example."""
    parted = at.examples.split(g, at.count)  # [count, rows, *others]
    target = at.shape
    dims = g.dim() - len(target)
    if dims < 0:
        return None
    # Dimensions of g that the parameter spans; the one that holds the examples is not among them.
    kept = [d for d in range(g.dim()) if d >= dims and target[d - dims] > 1]
    if at.examples.dim in kept:
        return None
    others = [d for d in range(g.dim()) if d != at.examples.dim]
    if at.examples.further in kept:
        return _by_slice(parted, kept, others, at, target[at.examples.further - dims])
    summed = [2 + i for i, d in enumerate(others) if d not in kept] + [1]
    return Direct(parted.sum(summed).reshape(at.count, -1, 1))


def _by_slice(parted: Tensor, kept: list[int], others: list[int], at: Context, length: int) -> Term | None:
    """A parameter with a slice for each position, as learnt positions are: an example meets its position's alone."""
    slices = at.examples.slices(length)
    if slices is None or kept[0] != at.examples.further:
        return None
    summed = [2 + i for i, d in enumerate(others) if d not in kept] + [1]
    right = parted.sum(summed).reshape(at.count, 1, -1)
    return Lookup(slices[:, None].to(right.device), right, length)


def addition(use: Use, g: Tensor, at: Context) -> Term | None:
    """x + α·parameter, broadcast."""
    if use.slot == 1 and float(use.node._saved_alpha) != 1:
        g = g * float(use.node._saved_alpha)
    return bias_term(use, g, at)


def subtraction(use: Use, g: Tensor, at: Context) -> Term | None:
    """x − α·parameter, or parameter − x."""
    return bias_term(use, g if use.slot == 0 else -float(use.node._saved_alpha) * g, at)


def multiplication(use: Use, g: Tensor, at: Context) -> Term | None:
    """x · parameter, broadcast."""
    other = use.node._saved_other if use.slot == 0 else use.node._saved_self
    return None if other is None else bias_term(use, g * other, at)


def division(use: Use, g: Tensor, at: Context) -> Term | None:
    """parameter / x."""
    return bias_term(use, g / use.node._saved_other, at) if use.slot == 0 else None


def expansion(use: Use, g: Tensor, at: Context) -> Term | None:
    """A parameter repeated for every example, as a class token is."""
    return bias_term(use, g, at)


def convolution(use: Use, g: Tensor, at: Context) -> Term | None:
    """A convolution, or a transposed one, of any dimension."""
    node = use.node
    if at.examples.dim != 0:
        return None
    spatial = g.dim() - 2
    if use.slot == 2:
        return _by_channel(g, at)
    if use.slot != 1 or spatial not in (1, 2, 3):
        return None
    x, kernel, groups = node._saved_input.to(g), at.shape[2:], int(node._saved_groups)
    padding, stride, dilation = (list(getattr(node, f"_saved_{name}")) for name in ("padding", "stride", "dilation"))
    if node._saved_transposed:
        # The adjoint of a convolution: the output's gradient is cut into patches, the input takes the output's place.
        patched, plain = patches(g, kernel, stride, padding, dilation, x.shape[2:]), x.flatten(2)
        left, right = plain.mT, patched.mT
    else:
        patched, plain = patches(x, kernel, stride, padding, dilation, g.shape[2:]), g.flatten(2)
        left, right = plain.mT, patched.mT
    if groups == 1:
        return Outer(*(_joined_rows(side, at) for side in (left, right)))
    n, t = left.shape[:2]
    by_group = torch.einsum("ntgi,ntgj->ngij", left.reshape(n, t, groups, -1), right.reshape(n, t, groups, -1)).flatten(
        1, 2
    )
    return Direct(at.examples.split(by_group, at.count).sum(1))


def _joined_rows(side: Tensor, at: Context) -> Tensor:
    """[images, positions, features] as [examples, rows, features]: an example may be several images."""
    if len(side) == at.count:
        return side
    parted = at.examples.split(side, at.count)
    return parted.reshape(at.count, -1, side.shape[2])


def patches(
    x: Tensor, kernel: torch.Size, stride: list[int], padding: list[int], dilation: list[int], places: torch.Size
) -> Tensor:
    """What the kernel sees at each place, ``[n, channels · kernel, places]``, in the order of a weight's entries."""
    n, channels = x.shape[:2]
    if len(kernel) == 2:
        unfolded = F.unfold(x, tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))
        found = [(x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
        if found == list(places):
            return unfolded
        cut = unfolded.reshape(n, -1, *found)[:, :, : places[0], : places[1]]  # output_padding, strides that don't fit
        return cut.flatten(2)
    padded = F.pad(x, [side for width in reversed(padding) for side in (width, width)])
    for d, size in enumerate(kernel):
        reach = dilation[d] * (size - 1) + 1
        # Windows of one dimension after the other; dilation picks every d-th entry of a window.
        padded = padded.unfold(2 + d, reach, stride[d])[..., :: dilation[d]]
    spatial = len(kernel)
    for d in range(spatial):
        padded = padded.narrow(2 + d, 0, places[d])
    order = [0, 1, *range(2 + spatial, 2 + 2 * spatial), *range(2, 2 + spatial)]
    return padded.permute(order).reshape(n, channels * math.prod(kernel), -1)


def layer_norm(use: Use, g: Tensor, at: Context) -> Term | None:
    """Normalised over the last dimensions: weight and bias meet the normalised input."""
    node = use.node
    if use.slot == 2:
        return bias_term(use, g, at)
    if use.slot != 1:
        return None
    return bias_term(use, g * (node._saved_input.to(g) - node._saved_result1) * node._saved_result2, at)


def fused_rms_norm(use: Use, g: Tensor, at: Context) -> Term | None:
    """Root-mean-square norm as one kernel."""
    if use.slot != 1:
        return None
    return bias_term(use, g * use.node._saved_input.to(g) * use.node._saved_result1, at)


def group_norm(use: Use, g: Tensor, at: Context) -> Term | None:
    """Normalised over groups of channels; weight and bias belong to the channels."""
    if at.examples.dim != 0 or use.slot not in (1, 2):
        return None
    if use.slot == 1:
        x, groups = use.node._saved_input.to(g), int(use.node._saved_group)
        grouped = x.reshape(len(x), groups, -1)
        mean, scale = (side.reshape(len(x), groups, 1) for side in (use.node._saved_result1, use.node._saved_result2))
        g = g * ((grouped - mean) * scale).reshape(x.shape)
    return _by_channel(g, at)


def batch_norm(use: Use, g: Tensor, at: Context) -> Term | None:
    """Normalised by running statistics, as in eval mode."""
    node = use.node
    if at.examples.dim != 0 or use.slot not in (1, 2) or node._saved_training:
        return None
    if use.slot == 1:
        shape = [1, -1] + [1] * (g.dim() - 2)
        mean, variance = (side.reshape(shape) for side in (node._saved_running_mean, node._saved_running_var))
        g = g * (node._saved_input.to(g) - mean) * (variance.to(g) + node._saved_eps).rsqrt()
    return _by_channel(g, at)


def _by_channel(g: Tensor, at: Context) -> Term:
    """Sums over an example's images and their places."""
    parted = at.examples.split(g, at.count)
    return Direct(parted.sum([1, *range(3, parted.dim())])[:, :, None])


def embedding(use: Use, g: Tensor, at: Context) -> Term | None:
    """Rows of a table; the padding's row gets nothing."""
    node = use.node
    if node._saved_scale_grad_by_freq or node._saved_sparse:
        return None
    index = node._saved_indices
    right, found = by_rows(g, at, 1), by_rows(index, at, 0).reshape(at.count, -1)
    padding = _signed(node._saved_padding_idx)
    if padding >= 0:
        right = right * (found != padding)[:, :, None]
    return Lookup(found, right, at.shape[0])


def embedding_bag(use: Use, g: Tensor, at: Context) -> Term | None:
    """Sums or means of rows, in bags of equal length."""
    node, mode = use.node, int(use.node._saved_mode)
    index, bags = node._saved_indices, g.shape[0]
    if use.slot != 0 or mode == 2 or node._saved_scale_grad_by_freq or index.numel() % bags:
        return None
    index = index.reshape(bags, -1)
    expected = torch.arange(bags, device=index.device) * index.shape[1]
    if not torch.equal(node._saved_offsets.flatten()[:bags], expected):
        return None
    weight = torch.ones_like(index, dtype=g.dtype)
    padding = _signed(node._saved_padding_idx)
    if padding >= 0:
        weight = weight * (index != padding)
    if mode == 1:
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1)
    elif node._saved_per_sample_weights is not None:
        weight = weight * node._saved_per_sample_weights.reshape(bags, -1)
    spread = weight[:, :, None] * g[:, None, :]
    parted = at.examples.split(spread, at.count)
    found = at.examples.split(index, at.count).reshape(at.count, -1)
    return Lookup(found, parted.reshape(at.count, -1, g.shape[-1]), at.shape[0])


def _signed(value: int) -> int:
    """torch saves −1 as the largest unsigned number."""
    return int(value) if int(value) < 2**63 else int(value) - 2**64


RULES: dict[str, TermRule] = {
    "AddmmBackward0": matrix_product,
    "MmBackward0": matrix_product,
    "ConvolutionBackward0": convolution,
    "NativeLayerNormBackward0": layer_norm,
    "FusedRmsNormBackward0": fused_rms_norm,
    "NativeGroupNormBackward0": group_norm,
    "NativeBatchNormBackward0": batch_norm,
    "EmbeddingBackward0": embedding,
    "EmbeddingBagBackward0": embedding_bag,
    "AddBackward0": addition,
    "SubBackward0": subtraction,
    "MulBackward0": multiplication,
    "DivBackward0": division,
    "ExpandBackward0": expansion,
}

ROW_DIMS: dict[str, Callable[[Use, torch.Size], list[int]]] = {
    "AddmmBackward0": lambda use, shape: [0],
    "MmBackward0": lambda use, shape: [0],
    "ConvolutionBackward0": lambda use, shape: [0],
    "NativeGroupNormBackward0": lambda use, shape: [0],
    "NativeBatchNormBackward0": lambda use, shape: [0],
    "EmbeddingBagBackward0": lambda use, shape: [0],
    "EmbeddingBackward0": lambda use, shape: list(range(len(shape) - 1)),
}
"""Dimensions of an operation's output that may hold the examples; any, where it isn't said."""
