"""Where examples lie in an operation's input, if it is known where they lie in its output: a rule for each operation.

A rule says nothing (None) unless it holds whatever the numbers are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from upweight.gradients.graph import Node
from upweight.gradients.rules import Examples

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Shared:
    """All examples have the same part in the whole tensor, as they have in a parameter that is broadcast to them."""


SHARED = Shared()
Place = Examples | Shared | None
"""Where the examples lie; None: not known."""

Answers = dict[tuple[Node, str], Any]
"""What rules read of operations: each attribute's value, None where there is none."""


@dataclass(frozen=True)
class Step:
    """An operation's output with the examples in it, seen from one of its inputs.

    Attributes
    ----------
    node, slot
        The operation, and which of its inputs.
    at
        Where the examples lie in the output.
    out, given
        Shapes of the output and of the input.
    count
        Number of examples.
    answers
        Takes down what a rule asks of the operation beside shapes: where that is the same the rule says the same.
    """

    node: Node
    slot: int
    at: Examples
    out: Shape
    given: Shape
    count: int
    answers: Answers = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """The output's dimension that holds the examples."""
        return self.at.dim

    def asked(self, name: str) -> Any:
        """What the operation remembers under this name; None if nothing."""
        attribute = f"_saved_{name}"
        value = self.answers[self.node, attribute] = getattr(self.node, attribute, None)
        return value

    def saved(self, name: str) -> list[int]:
        """Dimensions that the operation remembers, counted from the left of its input; [] where it names none."""
        value = self.asked(name)
        numbers = [] if value is None else [value] if isinstance(value, int) else list(value)
        return [_signed(number) % max(len(self.given), 1) for number in numbers]

    def same(self, dim: int) -> Place:
        """The examples in a dimension of the input that is as long as the output's."""
        fits = 0 <= dim < len(self.given) and self.given[dim] == self.out[self.dim]
        return Examples(dim, 1 if self.given[dim] == self.count else self.at.before) if fits else None


PlaceRule = Callable[[Step], Place]


def _signed(number: int) -> int:
    return number if number < 2**63 else number - 2**64


def entrywise(step: Step) -> Place:
    """Entry by entry, shorter inputs broadcast from the right."""
    dim = step.dim - (len(step.out) - len(step.given))
    if dim < 0 or (step.given[dim] == 1 and step.out[step.dim] > 1):
        return SHARED
    return step.same(dim)


def along(step: Step) -> Place:
    """One dimension's entries meet (softmax, sorting, sums so far); the others' stay apart."""
    return None if step.dim in step.saved("dim") or not step.saved("dim") else step.same(step.dim)


def reduced(step: Step) -> Place:
    """Dimensions that are summed up, or what else makes one number of them."""
    dims = step.saved("dim")
    if not dims:
        return None
    keeps = step.asked("keepdim")
    if len(step.out) == len(step.given) if keeps is None else keeps:
        return None if step.dim in dims else step.same(step.dim)
    kept = [dim for dim in range(len(step.given)) if dim not in dims]
    return step.same(kept[step.dim]) if step.dim < len(kept) else None


def reshaped(step: Step) -> Place:
    """The same entries in the same order, in another shape."""
    size = step.out[step.dim]
    before = size // step.count if step.at.before == 0 else step.at.before
    outer = math.prod(step.out[: step.dim]) * before
    inner = math.prod(step.out) // max(outer * step.count, 1)
    ahead = 1
    for dim, length in enumerate(step.given):
        if outer % ahead == 0:
            own = outer // ahead
            rest = math.prod(step.given[dim + 1 :])
            if length % (own * step.count) == 0 and length // (own * step.count) * rest == inner:
                return _examples(dim, own, length, step.count)
        ahead *= length
    return None


def _examples(dim: int, before: int, length: int, count: int) -> Examples:
    """In the form in which plans have it: last of all is 0 before, unless they are also first."""
    return Examples(dim, 0 if before > 1 and before * count == length else before)


def transposed(step: Step) -> Place:
    """Two dimensions change places."""
    first, second = (*step.saved("dim0"), *step.saved("dim1")) or (0, 1)
    swapped = {first: second, second: first}
    return step.same(swapped.get(step.dim, step.dim))


def permuted(step: Step) -> Place:
    """Dimensions in another order."""
    return step.same(step.saved("dims")[step.dim])


def sliced(step: Step) -> Place:
    """Part of a dimension."""
    return step.same(step.dim)  # of the examples' own only the whole is as long


def selected(step: Step) -> Place:
    """One entry of a dimension, which is gone then."""
    (dim,) = step.saved("dim")
    return step.same(step.dim + (step.dim >= dim))


def split(step: Step) -> Place:
    """Parts along a dimension."""
    return None if step.dim in step.saved("dim") else step.same(step.dim)


def stacked(step: Step) -> Place:
    """Inputs along a new dimension."""
    dim = _signed(step.asked("dim")) % len(step.out)
    return None if dim == step.dim else step.same(step.dim - (step.dim > dim))


def joined(step: Step) -> Place:
    """Inputs behind each other along a dimension."""
    return None if step.dim in step.saved("dim") else step.same(step.dim)


def turned(step: Step) -> Place:
    """Entries turned around or about along some dimensions."""
    return None if step.dim in step.saved("dims") else step.same(step.dim)


def repeated(step: Step) -> Place:
    """The whole several times along some dimensions."""
    times = list(step.asked("repeats"))
    return entrywise(step) if times[step.dim] == 1 else None


def padded(step: Step) -> Place:
    """Entries added at the ends of the last dimensions."""
    pad = step.asked("padding") if step.asked("pad") is None else step.asked("pad")
    if pad is None or step.dim >= len(step.out) - len(pad) // 2:
        return None
    return step.same(step.dim)


def product(step: Step) -> Place:
    """A @ B, and what is added to it: rows of A are rows of the product, columns of B its columns."""
    added = len(step.node.next_functions) == 3
    if added and step.slot == 0:
        return entrywise(step)
    is_right, last = step.slot == 1 + added, len(step.out) - 1
    if step.dim < last - 1:
        return step.same(step.dim)
    own = last if is_right else last - 1
    return step.same(step.dim) if step.dim == own else SHARED


def matrix_vector(step: Step) -> Place:
    """A v, and what is added to it."""
    added = len(step.node.next_functions) == 3
    if added and step.slot == 0:
        return entrywise(step)
    return step.same(0) if step.slot == int(added) else SHARED


def attention(step: Step) -> Place:
    """softmax(QKᵀ + mask) V: rows of Q are rows of the outcome, all before are apart."""
    if step.dim == len(step.out) - 1 or len(step.out) != len(step.given):
        return None
    if step.slot > 2 or step.dim < len(step.out) - 2:
        return entrywise(step)
    return step.same(step.dim) if step.slot == 0 else SHARED


def convolved(step: Step) -> Place:
    """Images by kernels."""
    return step.same(0) if step.dim == 0 and step.slot == 0 else SHARED if step.dim == 0 and step.slot == 2 else None


def normalised(step: Step) -> Place:
    """The last dimensions by their mean and variance."""
    trailing = len(step.asked("normalized_shape"))
    if step.slot > 0:
        return SHARED
    return step.same(step.dim) if step.dim < len(step.out) - trailing else None


def normalised_by_group(step: Step) -> Place:
    """Groups of an example's channels by their mean and variance."""
    return SHARED if step.slot else step.same(0) if step.dim == 0 else None


def normalised_by_channel(step: Step) -> Place:
    """Channels by means and variances that were learnt before; of the batch's own, everybody has a part."""
    if step.asked("training") is not False:
        return None
    return SHARED if step.slot else step.same(step.dim) if step.dim != 1 else None


def nearby(dimensions: int) -> PlaceRule:
    """Entries that are near each other in the last so many dimensions (pooling, resizing)."""

    def rule(step: Step) -> Place:
        return step.same(step.dim) if step.dim < len(step.out) - dimensions else None

    return rule


def negative_log(step: Step) -> Place:
    """The entry of the target's class, the second dimension of more than one."""
    return step.same(0 if step.dim == 0 else step.dim + 1)


def picked(step: Step) -> Place:
    """Entries by their numbers: those of other dimensions, or one of each example in their order."""
    indices = list(step.asked("indices"))
    given = [dim for dim, index in enumerate(indices) if index is not None]
    if step.dim != 0 or given[-1] - given[0] >= len(given):
        return None
    first = indices[0]
    if first is None:
        return step.same(0)
    if any(indices[dim].dim() != 1 or indices[dim].dtype == torch.bool for dim in given):
        return None
    in_order = torch.arange(step.given[0], device=first.device, dtype=first.dtype)
    return step.same(0) if torch.equal(first, in_order) else None


def looked_up(step: Step) -> Place:
    """Rows of a table by number."""
    return SHARED  # of a table that is everybody's; of activations none is one example's for certain


ENTRYWISE = (
    *(
        "Add",
        "Sub",
        "Rsub",
        "Mul",
        "Div",
        "Neg",
        "Abs",
        "Exp",
        "Exp2",
        "Log",
        "Log1P",
        "Log2",
        "Expm1",
        "Sqrt",
        "Rsqrt",
    ),
    *("Pow", "Reciprocal", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Mish", "Sigmoid", "Tanh"),
    *("Softplus", "Softshrink", "Hardshrink", "Hardtanh", "Hardswish", "Hardsigmoid", "LogSigmoid", "PreluKernel"),
    *("Sin", "Cos", "Tan", "Atan", "Atan2", "Sinh", "Cosh", "Erf", "Erfc", "Erfinv", "Lgamma", "Digamma", "Sign"),
    *("Clamp", "ClampMin", "ClampMax", "Where", "MaskedFill", "Maximum", "Minimum", "Threshold", "Addcmul", "Addcdiv"),
    *("Lerp", "Clone", "Alias", "ToCopy", "NativeDropout", "Xlogy", "Logaddexp", "Sinc", "NanToNum", "Copysign"),
    *("BinaryCrossEntropyWithLogits", "BinaryCrossEntropy", "MseLoss", "SmoothL1Loss", "HuberLoss", "KlDiv"),
    *("SoftMarginLoss", "Fmod", "Remainder", "Floor", "Ceil", "Round", "Hypot", "Expand"),
)
BY_NAME: dict[PlaceRule, tuple[str, ...]] = {
    entrywise: ENTRYWISE,
    along: (
        *("Softmax", "LogSoftmax", "SafeSoftmax", "Cumsum", "Cumprod", "Sort", "Topk", "Logcumsumexp", "Cummax"),
        *("Cummin", "IndexSelect", "Gather", "Glu"),
    ),
    reduced: (
        *("Sum", "Mean", "Var", "VarMean", "Std", "StdMean", "Amax", "Amin", "LinalgVectorNorm", "Norm", "Logsumexp"),
        *("Prod", "Max", "Min", "Median", "Mode", "Kthvalue", "Nansum"),
    ),
    reshaped: ("View", "UnsafeView", "ReshapeAlias", "Reshape", "Unsqueeze", "Squeeze", "ReshapeCopy"),
    transposed: ("Transpose", "T"),
    permuted: ("Permute",),
    sliced: ("Slice",),
    selected: ("Select", "Unbind"),
    split: ("Split", "SplitWithSizes", "UnsafeSplit", "UnsafeSplitWithSizes"),
    stacked: ("Stack",),
    joined: ("Cat",),
    turned: ("Flip", "Roll"),
    repeated: ("Repeat",),
    padded: ("ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "ReplicationPad1D", "ReplicationPad2D"),
    product: ("Mm", "Addmm", "Bmm", "Baddbmm"),
    matrix_vector: ("Mv", "Addmv"),
    attention: (
        *(
            "ScaledDotProductFlashAttentionForCpu",
            "ScaledDotProductEfficientAttention",
            "ScaledDotProductCudnnAttention",
        ),
        *("ScaledDotProductFlashAttention", "ScaledDotProductFusedAttentionOverrideable"),
    ),
    convolved: ("Convolution", "MkldnnConvolution", "ConvolutionOverrideable", "SlowConv2D", "CudnnConvolution"),
    normalised: ("NativeLayerNorm", "FusedRmsNorm"),
    normalised_by_group: ("NativeGroupNorm",),
    normalised_by_channel: ("NativeBatchNorm", "CudnnBatchNorm"),
    nearby(1): ("MaxPool1DWithIndices", "AvgPool1D", "AdaptiveAvgPool1D", "UpsampleNearest1D", "UpsampleLinear1D"),
    nearby(2): (
        *("MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "AdaptiveMaxPool2D", "UpsampleNearest2D"),
        *("UpsampleBilinear2D", "UpsampleBicubic2D", "Tril", "Triu"),
    ),
    nearby(3): ("MaxPool3DWithIndices", "AvgPool3D", "AdaptiveAvgPool3D", "UpsampleNearest3D", "PixelShuffle"),
    negative_log: ("NllLoss", "NllLossNd", "NllLoss2D"),
    picked: ("Index",),
    looked_up: ("Embedding",),
}
RULES: dict[str, PlaceRule] = {
    f"{name}Backward{version}": rule for rule, names in BY_NAME.items() for name in names for version in range(4)
}
"""By the operation's name in torch's graph."""
