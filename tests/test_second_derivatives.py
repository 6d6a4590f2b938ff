"""Second derivatives that torch gets wrong or has none of: right, or refused with the example and the operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import upweight as uw
from problems import DOUBLE, close
from upweight.curvature import GGN, Hessian
from upweight.errors import InputError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*not at an optimum"),
    pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning"),
    pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning"),
]
CE = uw.losses.CrossEntropy()


def seeded(model: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return model().to(DOUBLE).eval()


def stack(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(*parts)


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


NORMED: dict[str, Callable[[], nn.Module]] = {
    "rows": lambda: stack(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)),
    "columns": lambda: stack(parametrizations.weight_norm(nn.Linear(3, 4), dim=1), nn.Tanh(), nn.Linear(4, 2)),
    "last layer": lambda: stack(nn.Linear(3, 4), nn.Tanh(), parametrizations.weight_norm(nn.Linear(4, 2))),
    "by hooks": lambda: stack(nn.utils.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)),
    "convolution": lambda: stack(
        nn.Unflatten(1, (1, 3)),
        parametrizations.weight_norm(nn.Conv1d(1, 2, 2)),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4, 2),
    ),
    "spectral": lambda: stack(parametrizations.spectral_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)),
    "orthogonal": lambda: stack(
        parametrizations.orthogonal(nn.Linear(3, 4), orthogonal_map="cayley"), nn.Tanh(), nn.Linear(4, 2)
    ),
    "gates": lambda: stack(nn.Linear(3, 4), nn.Hardsigmoid(), nn.Linear(4, 2)),
    "gates by their function": lambda: stack(nn.Linear(3, 4), Function(F.hardsigmoid), nn.Linear(4, 2)),
    "hard swish": lambda: stack(nn.Linear(3, 4), nn.Hardswish(), nn.Linear(4, 2)),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", NORMED)
def test_products_with_the_hessian_are_differences_of_the_gradient(name: str, seed: int) -> None:
    model = seeded(NORMED[name], seed)
    x = torch.randn(12, 3, dtype=DOUBLE)
    objective = uw.Objective(model, CE, (x, torch.arange(12) % 2), l2=0.01)
    vectors = torch.randn(2, objective.p, dtype=DOUBLE)
    found = Hessian().of(objective).apply(vectors)
    step = 1e-5
    for vector, product in zip(vectors, found, strict=True):
        ahead, back = (objective.gradient(objective.params + sign * step * vector) for sign in (1, -1))
        close(product, (ahead - back) / (2 * step), rtol=1e-5, atol=1e-7)
    matrix = Hessian().of(objective).apply(torch.eye(objective.p, dtype=DOUBLE))
    close(matrix, matrix.T, atol=1e-10)


class Kinked(nn.Module):
    """A function that is not twice differentiable at zero, of what a linear layer makes of a row."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(3, 4, bias=False), nn.Linear(width, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)))


AT_ZERO: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "norm": (lambda h: h.norm(dim=1, keepdim=True), 1),
    "matrix norm": (lambda h: torch.linalg.matrix_norm(h.reshape(-1, 2, 2)).unsqueeze(1), 1),
    "power": (lambda h: h.abs() ** 1.5, 4),
    "normalised": (lambda h: F.normalize(h, dim=1), 4),
    "p norm": (lambda h: torch.linalg.vector_norm(h, 3, dim=1, keepdim=True), 1),
}
SECOND: dict[str, Callable[[], Any]] = {
    "dense": lambda: uw.inverse.Dense(Hessian(), damping=1.0),
    "cg": lambda: uw.inverse.CG(Hessian(), damping=1.0),
    "lsmr": lambda: uw.inverse.LSMR(Hessian(), damping=1.0),
    "arnoldi": lambda: uw.inverse.Arnoldi(3, Hessian(), damping=1.0),
}


def with_a_zero_row() -> tuple[Tensor, Tensor]:
    x = torch.randn(6, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    x[3] = 0
    return x, torch.arange(6) % 2


@pytest.mark.parametrize("inverse", SECOND)
@pytest.mark.parametrize("name", AT_ZERO)
def test_a_zero_row_is_refused_by_name_or_has_its_right_value(name: str, inverse: str) -> None:
    """Where plain differentiation has a finite Hessian so have we; else example and operation are named."""
    function, width = AT_ZERO[name]
    x, y = with_a_zero_row()
    model = seeded(lambda: Kinked(function, width))
    objective = uw.Objective(model, CE, (x, y), l2=0.1)
    theta = [value.detach() for value in model.parameters()]

    def risk(*values: Tensor) -> Tensor:
        named = dict(zip(dict(model.named_parameters()), values, strict=True))
        return F.cross_entropy(torch.func.functional_call(model, named, (x,)), y)

    rows = torch.autograd.functional.hessian(risk, tuple(theta))
    whole = torch.cat(
        [torch.cat([b.reshape(v.numel(), -1) for b in row], 1) for row, v in zip(rows, theta, strict=True)]
    )
    given = uw.Influence(objective, SECOND[inverse]())
    if torch.isfinite(whole).all():
        if inverse == "dense":
            close(Hessian().of(objective).dense(), whole + 0.1 * torch.eye(objective.p, dtype=DOUBLE), atol=1e-9)
        else:
            assert given.attribute((x[:1], y[:1])).scores.isfinite().all()
        return
    with pytest.raises(InputError, match=r"second derivatives of training example 3's loss are NaN or infinite, at "):
        given.attribute((x[:1], y[:1]))


@pytest.mark.parametrize("name", AT_ZERO)
def test_inverses_by_rows_of_first_derivatives_go_on(name: str) -> None:
    """Where torch's products with the GGN are finite too they agree; else the refusal names the way."""
    function, width = AT_ZERO[name]
    x, y = with_a_zero_row()
    objective = uw.Objective(seeded(lambda: Kinked(function, width)), CE, (x, y), l2=0.1)
    found = uw.Influence(objective, uw.inverse.Dual(GGN(), damping=1.0)).attribute((x[:1], y[:1])).scores
    assert found.isfinite().all()
    dense = uw.Influence(
        objective, uw.inverse.CG(GGN(), damping=1.0) if name == "p norm" else uw.inverse.Dense(GGN(), damping=1.0)
    )
    if name == "p norm":
        with pytest.raises(InputError, match=r"products with the GGN .* training example 3.*inverse\.Dual\(\)"):
            dense.attribute((x[:1], y[:1]))
    else:
        close(found, dense.attribute((x[:1], y[:1])).scores, rtol=1e-7, atol=1e-10)
