"""Whose each row of an operation is, where that is not a matter of shapes: unpadded tokens, nodes of graphs, routing.

A plan says how examples lie in an operation's output, and is settled on a few of them. Where rows are arranged by
shapes alone, that holds for every batch of a form in which it was seen (`seen_forms`). Operations that arrange them by
their values (``x[mask]``, index_add, pooling by a matrix) give each batch an order of its own, and only the batch
itself can tell: f = Σ_i s_i f_i is linear in the seeds s, so the gradient at a row of example i is s_i times that of
s = 1, and the ratio names the example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from upweight.gradients.graph import Node
from upweight.gradients.rules import Examples

BASE = 64
"""Seeds are 1 + digit/64 for the digits of an example's number, so that ratios stay apart in float32."""
APART = 0.25
"""Of the distance between two seeds, by which a ratio may be off."""
ROUNDING = {torch.float64: 1e-7, torch.float32: 2e-3}
"""Part of a row's gradient that may be none of its example's."""

BY_SHAPE = frozenset(
    f"{name}Backward{version}"
    for version in range(3)
    for name in (
        *(
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Neg",
            "Abs",
            "Exp",
            "Log",
            "Log1P",
            "Expm1",
            "Sqrt",
            "Rsqrt",
            "Pow",
            "Reciprocal",
        ),
        *(
            "Relu",
            "LeakyRelu",
            "Elu",
            "Selu",
            "Celu",
            "Gelu",
            "Silu",
            "Mish",
            "Sigmoid",
            "Tanh",
            "Softplus",
            "Hardtanh",
        ),
        *(
            "Hardswish",
            "Hardsigmoid",
            "LogSigmoid",
            "Softmax",
            "LogSoftmax",
            "PreluKernel",
            "Sin",
            "Cos",
            "Erf",
            "Clamp",
        ),
        *(
            "ClampMin",
            "ClampMax",
            "Where",
            "MaskedFill",
            "Maximum",
            "Minimum",
            "Threshold",
            "GluBackward",
            "Glu",
            "Sign",
        ),
        *(
            "Sum",
            "Mean",
            "Var",
            "VarMean",
            "Std",
            "Amax",
            "Amin",
            "LinalgVectorNorm",
            "Norm",
            "Logsumexp",
            "Prod",
            "Cumsum",
        ),
        *(
            "View",
            "UnsafeView",
            "ReshapeAlias",
            "Reshape",
            "T",
            "Transpose",
            "Permute",
            "Unsqueeze",
            "Squeeze",
            "Expand",
        ),
        *(
            "Slice",
            "Select",
            "Split",
            "SplitWithSizes",
            "UnsafeSplit",
            "Unbind",
            "Cat",
            "Stack",
            "Clone",
            "Alias",
            "Repeat",
        ),
        *("ToCopy", "AsStrided", "Narrow", "Unfold", "Movedim", "Flip", "Roll", "ConstantPadNd", "ReflectionPad2D"),
        *("Convolution", "MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "UpsampleNearest2D"),
        *(
            "UpsampleBilinear2D",
            "PixelShuffle",
            "MaxPool1DWithIndices",
            "AdaptiveMaxPool2D",
            "AvgPool1D",
            "MkldnnConvolution",
        ),
        *("NativeLayerNorm", "NativeGroupNorm", "NativeBatchNorm", "FusedRmsNorm", "NativeDropout", "CudnnBatchNorm"),
        *("Bmm", "Baddbmm", "Addmm", "Mm", "Mv", "Dot", "Addcmul", "Addcdiv", "Lerp", "Embedding", "AccumulateGrad"),
        *(
            "ScaledDotProductFlashAttentionForCpu",
            "ScaledDotProductEfficientAttention",
            "ScaledDotProductFlashAttention",
        ),
        *("ScaledDotProductAttentionMath", "Gather", "NllLoss", "NllLossNd", "BinaryCrossEntropyWithLogits", "MseLoss"),
    )
) | {"torch::autograd::AccumulateGrad"}
"""Operations that arrange rows by their shapes alone, but for what `_mixes_rows` and `_cuts_rows` say."""


def arranges_by_value(root: Tensor, count: int) -> bool:
    """Whether an operation on the way to ``count`` examples' values may arrange rows by more than their shapes."""
    seen: set[Node] = set()
    stack: list[Node] = [root.grad_fn] if root.grad_fn is not None else []
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.name() not in BY_SHAPE or _mixes_rows(node) or _cuts_rows(node, count):
            return True
        stack += [child for child, _ in node.next_functions if child is not None]
    return False


def _mixes_rows(node: Node) -> bool:
    """A product of something with an activation on its right: its rows become sums of rows."""
    if node.name() not in ("MmBackward0", "AddmmBackward0"):
        return False
    right = node.next_functions[-1][0]
    return right is not None and not _is_parameter(right)


ALONG = ("GatherBackward0", "SliceBackward0", "SelectBackward0", "SplitBackward0", "SplitWithSizesBackward0")
"""Operations that take parts along a dimension: of the first, they may cut a batch into parts of any lengths."""


def _cuts_rows(node: Node, count: int) -> bool:
    """Whether parts are taken along the first dimension, where it is long enough to hold the examples."""
    if node.name() not in ALONG or node._saved_dim != 0:
        return False
    sizes = getattr(node, "_saved_self_sym_sizes", None)
    return sizes is None or sizes[0] >= count


def _is_parameter(node: Node) -> bool:
    """Whether a node only arranges a parameter."""
    while True:
        below = [child for child, _ in node.next_functions if child is not None]
        if not below:
            return True
        if len(below) > 1:
            return False
        node = below[0]


def seeds(count: int, like: Tensor) -> Tensor:
    """Multipliers of the examples' values, ``[digits, count]``."""
    numbers, digits = torch.arange(count, device=like.device), []
    while True:
        digits.append(1 + (numbers % BASE).to(like.dtype) / BASE)
        numbers = numbers // BASE
        if not numbers.any():
            return torch.stack(digits)


def by_row(gradient: Tensor, dim: int) -> Tensor:
    """Rows along a dimension, ``[rows, others]``."""
    return gradient.movedim(dim, 0).unsqueeze(-1).flatten(1)


def owners(plain: Tensor, seeded: list[Tensor], dim: int, count: int) -> Int[Tensor, " rows"] | None:
    """The example that each row along ``dim`` belongs to, −1 where it has no gradient; None where one has several.

    ``plain`` is the gradient at the operation's output, ``seeded`` are those with the examples' seeds.
    """
    rows = by_row(plain, dim)
    squares = (rows * rows).sum(1)
    found = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    allowed = ROUNDING.get(plain.dtype, 2e-3)
    size = float(squares.max()) ** 0.5 if len(rows) else 0.0
    for place, gradient in enumerate(seeded):
        others = by_row(gradient, dim)
        ratios = (rows * others).sum(1) / squares.clamp_min(torch.finfo(rows.dtype).tiny)
        digits = ((ratios - 1) * BASE).round()
        off = ((ratios - 1) * BASE - digits).abs() > APART
        rest = (others - ratios[:, None] * rows).norm(dim=1)
        # Rows far below the largest are rounding of sums that cancel; they weigh nothing either.
        wrong = (off | (digits < 0) | (digits >= BASE)) & (squares > (1e-12 * size) ** 2)
        if wrong.any() or (rest > allowed * others.norm(dim=1) + 1e-12 * size).any():
            return None
        found += digits.clamp(0, BASE - 1).long() * BASE**place
    found = torch.where(squares > 0, found, -1)
    return None if (found >= count).any() else found


@dataclass(frozen=True)
class Owned(Examples):
    """Examples whose rows stand anywhere along ``dim``: ``owners[r]`` says whose row r is, −1 nobody's."""

    owners: Any = None

    def fits(self, shape: torch.Size, count: int) -> bool:
        """Whether there are so many rows."""
        return self.dim < len(shape) and shape[self.dim] == len(self.owners)

    def split(self, tensor: Tensor, count: int) -> Tensor:
        """The examples first, ``[count, most rows of one, *others]``, filled up with zeros."""
        moved = tensor.movedim(self.dim, 0)
        mine = (self.owners >= 0).nonzero().flatten()
        order = mine[self.owners[mine].argsort(stable=True)]
        whose = self.owners[order]
        sizes = torch.bincount(whose, minlength=count)
        starts = sizes.cumsum(0) - sizes
        place = torch.arange(len(order), device=order.device) - starts[whose]
        padded = moved.new_zeros(count, max(int(sizes.max()), 1) if len(order) else 1, *moved.shape[1:])
        padded[whose, place] = moved[order]
        return padded


def planned(plan: Examples, rows: int, count: int, device: torch.device) -> Int[Tensor, " rows"]:
    """The example of each row, as the plan has it."""
    parted = Examples(0, plan.before).split(torch.arange(rows, device=device), count)
    expected = torch.empty(rows, dtype=torch.long, device=device)
    expected[parted.reshape(-1)] = torch.arange(count, device=device).repeat_interleave(parted.shape[1])
    return expected


def lying(plan: Examples | None, found: Tensor, shape: torch.Size, dim: int, count: int) -> Examples:
    """The plan's way of lying, if this batch's rows lie so; else by their owners."""
    if plan is not None and not isinstance(plan, Owned) and plan.fits(shape, count):
        expected = planned(plan, len(found), count, found.device)
        if bool(((found == expected) | (found < 0)).all()):
            return plan
    return Owned(dim, -1, found)
