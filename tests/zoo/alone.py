"""The truth: every example differentiated alone on a copy of the model, by plain torch and nothing of the package."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from zoo.case import Case

STEP = 1e-5


def count(case: Case) -> int:
    return len(case.data) if isinstance(case.data, list) else len(pytree.tree_leaves(case.data)[0])


def example(case: Case, position: int) -> Any:
    if case.collate is not None:
        return case.collate([case.data[position]])
    return pytree.tree_map(lambda leaf: leaf[position : position + 1], case.data)


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [value for value in model.parameters() if value.requires_grad]


def flat(grads: Any) -> Tensor:
    return torch.cat([grad.flatten() for grad in grads])


def gradients(case: Case, vector: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """The gradient of every example, and their mean Hessian's product with a vector."""
    rows, products = [], []
    for position in range(count(case)):
        model = copied(case.model)
        chosen = trained(model)
        with sdpa_kernel(SDPBackend.MATH):
            loss = case.plain(model, example(case, position))
            twice = vector is not None and not case.differences and not case.once
            grads = torch.autograd.grad(loss, chosen, create_graph=twice, allow_unused=True, materialize_grads=True)
            rows.append(flat(grads).detach())
            if twice:
                product = (flat(grads) * vector).sum()
                if product.requires_grad:
                    second = torch.autograd.grad(product, chosen, allow_unused=True, materialize_grads=True)
                    products.append(flat(second))
                else:
                    products.append(torch.zeros_like(rows[-1]))
    if vector is not None and case.differences:
        after, before = (gradients(moved(case, step * vector))[0].mean(0) for step in (STEP, -STEP))
        return torch.stack(rows), (after - before) / (2 * STEP)
    return torch.stack(rows), torch.stack(products).mean(0) if products else None


def moved(case: Case, by: Tensor) -> Case:
    """The case with its trained parameters elsewhere."""
    model = copied(case.model)
    start = 0
    with torch.no_grad():
        for value in trained(model):
            value += by[start : start + value.numel()].reshape(value.shape)
            start += value.numel()
    return Case(model, case.data, case.loss, case.plain, collate=case.collate)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, whose weights made of others (old weight norms) are cut off, since torch copies only leaves."""
    made = [
        value
        for part in model.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in made})
