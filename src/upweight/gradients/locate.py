"""How the examples lie in an operation's output, found by differentiating one example's value alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from upweight.gradients.graph import Use
from upweight.gradients.owners import Owned
from upweight.gradients.rules import ROW_DIMS, Examples


def output_gradients(root: Tensor, found: list[Use], seed: Tensor | None = None) -> dict[Any, Tensor]:
    """Gradients at the outputs of the operations that hold parameters; no gradient of a parameter is computed.

    ``seed``: what each entry of ``root`` counts (default: 1).
    """
    nodes = list(dict.fromkeys(use.node for use in found))
    if not nodes:
        return {}
    # A number rather than ``root`` with ``seed`` as its gradient, for which torch imports a system of symbolic algebra.
    value = root.sum() if seed is None else (root * seed).sum()
    gradients = torch.autograd.grad(
        value, [GradientEdge(node, 0) for node in nodes], retain_graph=True, allow_unused=True
    )
    return {node: g for node, g in zip(nodes, gradients, strict=True) if g is not None}


def located(use: Use, rows: list[Tensor], count: int, known: Examples | None) -> Examples | None:
    """How the examples lie in an operation's output: where each example's own loss has a gradient.

    ``rows[i]`` is the gradient of example i's value alone; it must vanish at the other examples' places.
    """
    shape = rows[0].shape
    dims = ROW_DIMS[use.kind](use, shape) if use.kind in ROW_DIMS else list(range(len(shape)))
    candidates = [Examples(dim, before) for before in (1, 0) for dim in dims]
    candidates += [Examples(dim, before) for dim in dims for before in range(2, shape[dim] // count)]
    for candidate in candidates if known is None else [known]:
        if candidate.fits(shape, count) and all(
            _alone(candidate.split(g, count), example) for example, g in enumerate(rows)
        ):
            return candidate
    return None


def scattered(use: Use, rows: list[Tensor], count: int) -> Examples | None:
    """Examples whose rows stand anywhere along one dimension, none shared: unpadded tokens, nodes of graphs."""
    shape = rows[0].shape
    for dim in ROW_DIMS[use.kind](use, shape) if use.kind in ROW_DIMS else range(len(shape)):
        touched = torch.stack([row.movedim(dim, 0).unsqueeze(-1).flatten(1).any(1) for row in rows])
        if len(rows) == count and not bool((touched.sum(0) > 1).any()) and bool(touched.any(1).all()):
            return Owned(dim, -1, torch.where(touched.any(0), touched.int().argmax(0), -1))
    return None


def _alone(parted: Tensor, example: int) -> bool:
    others = torch.arange(len(parted), device=parted.device) != example
    return not bool(parted[others].any())
