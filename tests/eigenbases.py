"""K-FAC and EK-FAC seen from outside: gradients one by one; bases, moments and blocks as matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import upweight as uw
from gradients.layers import Example
from problems import DOUBLE
from upweight.curvature.eigenbasis import EigenOperator
from upweight.inverse import EKFAC, KFAC
from upweight.losses import CrossEntropy

BOTH = [EKFAC, KFAC]
SLOW = pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")


def objective_of(example: Example, **options: Any) -> uw.Objective:
    x = example.x.double() if example.x.is_floating_point() else example.x
    return uw.Objective(example.model.eval().double(), CrossEntropy(), (x, example.y), **options)


def one_by_one(objective: uw.Objective) -> Tensor:
    """√(w/n)·∇ℓ of every example, alone in its batch: nothing of the package but the order of θ."""
    rows = []
    for i in range(objective.n):
        x, y = objective.data.take([i])
        named = {name: value.detach().requires_grad_() for name, value in objective.model.named_parameters()}
        out = functional_call(objective.model, named, (x,))
        value = nn.functional.cross_entropy(out.flatten(0, -2), y.flatten(), reduction="sum")
        chosen = [named[name] for name in objective.layout.names]
        found = torch.autograd.grad(value, chosen, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([grad.flatten() for grad in found]))
    return torch.stack(rows) * (objective.weights / objective.n).sqrt()[:, None]


def rotated(operator: EigenOperator, vectors: Tensor) -> Tensor:
    """Vectors in the operator's basis, by the orthogonal matrices of every block alone."""
    parts = []
    for basis, matrices in zip(operator.bases, operator.frame.matrices(vectors), strict=True):
        seen = matrices.flatten(1)[:, None] if basis.flat else matrices
        left, right = (
            torch.eye(d, dtype=DOUBLE) if q is None else q
            for q, d in zip((basis.left, basis.right), seen.shape[1:], strict=True)
        )
        assert all((q.T @ q - torch.eye(len(q))).norm() < 1e-9 for q in (left, right))
        parts.append(torch.einsum("krc,ri,cj->kij", seen, left, right).flatten(1))
    return torch.cat(parts, dim=1)


def rotation(operator: EigenOperator) -> Tensor:
    """Q as one matrix, eigenvectors in rows; for small p."""
    return rotated(operator, torch.eye(operator.size, dtype=DOUBLE)).T


def moments(operator: EigenOperator) -> Tensor:
    return torch.cat([values.flatten() for values in operator.values])


def block_diagonal(operator: EigenOperator, matrix: Tensor) -> Tensor:
    """The matrix without what stands between two blocks."""
    number = operator.frame.vectors(
        [torch.full((1, b.shape.rows, b.shape.columns), float(i), dtype=DOUBLE) for i, b in enumerate(operator.bases)]
    )[0]
    return matrix * (number[:, None] == number)


def positions() -> tuple[nn.Module, Tensor, Tensor]:
    """A layer at 5 positions of each example, the last position left out by the loss in half the examples."""
    torch.manual_seed(4)
    x, y = torch.randn(8, 5, 3, dtype=DOUBLE), torch.randint(0, 4, (8, 5))
    y[::2, 4] = -100
    return nn.Linear(3, 4, bias=False).double(), x, y
