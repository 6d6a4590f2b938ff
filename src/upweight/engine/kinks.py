"""Gradients that are finite and enormous, and second derivatives that are none: whose, and at which operation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from upweight.data import Batch
from upweight.engine.engine import Engine
from upweight.errors import InputError, KinkWarning, warn
from upweight.gradients.graph import CAST, VIEWS, Node
from upweight.gradients.substituted import substituted
from upweight.problem import Problem

ENORMOUS = 1e4
"""Multiple of the median beyond which a gradient's norm is looked into."""
LOOKED_INTO, COMPARED = 8, 7
"""Examples with such gradients, and examples about the median that they are compared with."""
STEEPER, STEEP = 100, 10
"""By how much an operation must lengthen a gradient more than it does for others, and at least: what saturates for
others (a softmax) has a slope of 1 at most, and a residual may be large for its own reasons."""
DIVIDING = ("RsqrtBackward0", "ReciprocalBackward0", "DivBackward0", "PowBackward0")
GROWING = ("PowBackward1", "ExpBackward0", "MmBackward0", "AddmmBackward0", "BmmBackward0", "ConvolutionBackward0")
"""Operations whose slope is large where their inputs are: no kinks."""
AS_IN = {
    "DivBackward0": "a division, as in F.normalize or cosine_similarity",
    "RsqrtBackward0": "one over a root, as in rms_norm",
    "NativeLayerNormBackward0": "layer_norm",
    "FusedRmsNormBackward0": "rms_norm",
    "LinalgVectorNormBackward0": "a norm of zero",
    "NormBackward0": "a norm of zero",
    "NormBackward1": "a norm of zero",
    "SqrtBackward0": "a root of zero",
    "PowBackward0": "a power of zero",
    "LogBackward0": "a logarithm of zero",
}


def warn_of_enormous_gradients(engine: Engine, squares: Float[Tensor, " n"]) -> None:
    """Say whose gradient is enormous at a kink: it would lead every list.

    An example that is merely badly fitted where others are fitted well has a large gradient too; only one that an
    operation of the model lengthens is spoken of.

    Parameters
    ----------
    squares
        ‖w_i∇ℓ_i‖² of all training examples.
    """
    problem = engine.problem
    weights = problem.weights.double()
    counted = (weights > 0) & (squares.to(weights) > 0)
    if engine.function.linear is not None or int(counted.sum()) < 3:
        return
    norms = torch.where(counted, squares.to(weights).sqrt() / weights.clamp_min(1e-300), 0.0)
    median = float(norms[counted].median())
    order = norms.argsort(descending=True)
    beyond = order[norms[order] > ENORMOUS * median][:LOOKED_INTO].tolist()
    if not beyond:
        return
    middle = int(counted.sum()) // 2
    usual = order[max(middle - COMPARED // 2, len(beyond)) :][:COMPARED].tolist()
    found = [(position, _steepest(problem, position, usual)) for position in beyond]
    named = [(position, operation) for position, operation in found if operation]
    if not named:
        return
    position, operation = named[0]
    others = ", ".join(str(problem.ids[other]) for other, _ in named[1:])
    warn(
        f"gradients: that of training example {problem.ids[position]} has norm {float(norms[position]):.3g}, "
        f"{float(norms[position]) / median:.2g} × the median, because of {operation}, whose slope near zero is finite "
        f"but enormous. It leads every list for that reason{f' (as do {others})' if others else ''}: leave it out, or "
        "give the operation a larger eps",
        KinkWarning,
    )


def _steepest(problem: Problem, position: int, usual: list[int]) -> str:
    """The operation that lengthens this example's gradient most beyond what it does for others; "" if none does."""
    batch = problem.data.take([position, *usual])
    with torch.enable_grad():
        leaves = _leaves(problem)
        values = substituted(problem.model, problem.loss, twice=False)(leaves, batch)
        gains: dict[Node, list[float]] = {}
        handles = [node.register_hook(_gain(node, gains)) for node in _nodes([values])]
        for number, value in enumerate(values):
            torch.autograd.grad(value, list(leaves.values()), retain_graph=True, allow_unused=True)
            for found in gains.values():
                found += [0.0] * (number + 1 - len(found))
        for handle in handles:
            handle.remove()
    best, name = 0.0, ""
    for node, (own, *others) in ((node, found) for node, found in gains.items() if len(found) == len(values)):
        ratio = own / max(float(torch.tensor(others).median()), 1e-300)
        if own >= STEEP and ratio >= STEEPER and ratio * own > best and (said := _said(node)):
            best, name = ratio * own, said
    return name


def _gain(node: Node, gains: dict[Node, list[float]]) -> Callable[[Any, Any], None]:
    """A hook that notes by how much a node lengthens the gradient on its way to what isn't a parameter."""
    inner = [child is not None and not hasattr(child, "variable") for child, _ in node.next_functions]

    def note(inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]) -> None:
        out = max((float(g.double().norm()) for g in outputs if g is not None), default=0.0)
        parts = (g for g, counts in zip(inputs, inner, strict=False) if g is not None and counts)
        most = max((float(g.double().norm()) for g in parts), default=0.0)
        gains.setdefault(node, []).append(most / out if out > 0 else 0.0)

    return note


def _said(node: Node) -> str:
    name = node.name()
    if name == "MulBackward0":  # x · 1/√(…), where the slope at x is the other factor
        return next((_words(other.name()) for other in map(_source, _children(node)) if _divides(other)), "")
    if name in GROWING or (name == "PowBackward0" and float(node._saved_exponent) >= 1):
        return ""
    return _words(name)


def _divides(node: Node) -> bool:
    return node.name() in DIVIDING and (node.name() != "PowBackward0" or float(node._saved_exponent) < 0)


def _source(node: Node) -> Node:
    while node.name() in {*VIEWS, CAST, "ExpandBackward0"} and len(_children(node)) == 1:
        (node,) = _children(node)
    return node


def _children(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]


def _words(name: str) -> str:
    short = name.removesuffix("0").removesuffix("1").removesuffix("Backward")
    return f"{short} ({AS_IN[name]})" if name in AS_IN else short


def _nodes(roots: list[Tensor]) -> Iterator[Node]:
    stack, seen = [root.grad_fn for root in roots if root.grad_fn is not None], set()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack += [child for child in _children(node) if not hasattr(child, "variable")]


def _leaves(problem: Problem) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in problem.named.items()}


def refuse_no_second_derivative(engine: Engine, indices: Tensor | None, name: str) -> None:
    """Say whose second derivatives are NaN or infinite, and where; of a product that isn't finite.

    Raises
    ------
    InputError
        Unless it is nobody's own: vectors that overflow, say.
    """
    problem, function = engine.problem, engine.function
    product = function.hessian_product if name == "Hessian" else function.ggn_product
    vector = torch.ones_like(problem.params)[None] / problem.p**0.5
    one = problem.weights.new_ones(1)
    for index, batch in engine.batches(indices):
        if bool(torch.isfinite(product(problem.params, batch, problem.weights[index], vector)).all()):
            continue
        for position in index.tolist():
            single = problem.data.take([position])
            if not bool(torch.isfinite(product(problem.params, single, one, vector)).all()):
                if name != "Hessian":
                    raise InputError(
                        f"curvature: torch's products with the {name} are NaN or infinite for training example "
                        f"{problem.ids[position]}, though its gradient is finite; use inverse.Dual() or "
                        "inverse.EKFAC(), which take first derivatives alone, leave the example out, or give the "
                        "operation an eps"
                    )
                where = _undefined(problem, single, vector[0])
                raise InputError(
                    f"curvature: the second derivatives of training example {problem.ids[position]}'s loss are NaN "
                    f"or infinite{f', at {where}' if where else ''}, though its gradient is finite; use "
                    "curvature.GGN(), which needs none of the model's, leave the example out, or give the operation "
                    "an eps"
                )


def _undefined(problem: Problem, single: Batch, vector: Tensor) -> str:
    """The operation of the forward pass whose second derivative isn't finite."""
    found: list[str] = []

    def note(node: Node) -> Callable[[Any, Any], None]:
        def hook(inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor | None, ...]) -> None:
            if _finite(outputs) and not _finite(inputs):
                parent = node.metadata.get("parent_")
                found.append(_words((parent or node).name()))

        return hook

    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        with torch.autograd.set_detect_anomaly(True, check_nan=False):  # notes which operation made which node
            leaves = _leaves(problem)
            total = substituted(problem.model, problem.loss)(leaves, single).sum()
            inputs = list(leaves.values())
            slopes = torch.autograd.grad(total, inputs, create_graph=True, allow_unused=True, materialize_grads=True)
            handles = [node.register_hook(note(node)) for node in _nodes(list(slopes))]
            seeds = problem.layout.unflatten(vector).values()
            pairs = [(slope, seed) for slope, seed in zip(slopes, seeds, strict=True) if slope.requires_grad]
            torch.autograd.grad([slope for slope, _ in pairs], inputs, [seed for _, seed in pairs], allow_unused=True)
            for handle in handles:
                handle.remove()
    return found[0] if found else ""


def _finite(values: tuple[Tensor | None, ...]) -> bool:
    return all(value is None or bool(torch.isfinite(value).all()) for value in values)
