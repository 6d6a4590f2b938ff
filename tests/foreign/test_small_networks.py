"""Influence of small convolutional networks by every general inverse, against whole Hessians of torch.func.

Upweighting −∇L_qᵀ(H+δI)⁻¹∇ℓ_z and its derivative in the training input (Koh & Liang 2017, eqs. 2 and 5), where δ is
large enough for H + δI to be positive definite away from an optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev

import upweight as uw
from foreign.plain import drawn, seeded
from problems import DOUBLE, close, unflatten
from upweight.curvature import Hessian

pytestmark = pytest.mark.filterwarnings("ignore:.*not at an optimum")
DAMPING = 50.0

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(3, 2)), (4,), 2),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 2, 2), nn.Flatten(), nn.Linear(4, 2)), (3, 3), 2),
    "conv2d": (lambda: nn.Sequential(nn.Conv2d(2, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)), (2, 3, 3), 2),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 2, 2), nn.Flatten(), nn.Linear(16, 3)), (2, 3, 3, 3), 3),
    "first layer held": (
        lambda: nn.Sequential(nn.Conv1d(3, 2, 2).requires_grad_(False), nn.Flatten(), nn.Linear(4, 2)),
        (3, 3),
        2,
    ),
}


def mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).mean(1)


def smooth(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.smooth_l1_loss(outputs, targets, reduction="none").mean(1)


INVERSES: dict[str, Callable[[int], Any]] = {
    "direct": lambda p: uw.inverse.Dense(Hessian(), damping=DAMPING),
    "cg": lambda p: uw.inverse.CG(Hessian(), damping=DAMPING, tolerance=1e-12),
    "lsmr": lambda p: uw.inverse.LSMR(Hessian(), damping=DAMPING, tolerance=1e-12),
    "lissa": lambda p: uw.inverse.LiSSA(Hessian(), damping=DAMPING, batch_size=None, repeats=1, bias=1e-12),
}


class Net:
    """A network with data, and its derivatives in the parameters that are trained."""

    def __init__(self, name: str, compare: Any):
        make, shape, outputs = NETS[name]
        self.compare, self.model = compare, seeded(2, make)
        self.x, self.y = drawn(3, 7, *shape), drawn(4, 7, outputs)
        self.query_x, self.query_y = drawn(5, 3, *shape), drawn(6, 3, outputs)
        trained = {name: v.detach() for name, v in self.model.named_parameters() if v.requires_grad}
        self.names = list(trained)
        self.theta = torch.cat([v.flatten() for v in trained.values()])

    def losses(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        named, start = {}, 0
        held = unflatten(self.model, torch.cat([v.detach().flatten() for v in self.model.parameters()]))
        for name in self.names:
            size = held[name].numel()
            named[name] = theta[start : start + size].reshape(held[name].shape)
            start += size
        return self.compare(functional_call(self.model, {**held, **named}, (x,)), y)

    def objective(self) -> uw.Objective:
        compare = self.compare
        return uw.Objective(self.model, lambda model, batch: compare(model(batch[0]), batch[1]), (self.x, self.y))

    def solved(self) -> Tensor:
        """(H+δI)⁻¹ of the queries' gradients."""
        matrix = hessian(lambda t: self.losses(t, self.x, self.y).mean())(self.theta)
        matrix = matrix + DAMPING * torch.eye(len(self.theta), dtype=DOUBLE)
        return torch.linalg.solve(matrix, jacrev(self.losses)(self.theta, self.query_x, self.query_y).T).T


network = cache(Net)


@cache
def influence(net: str, compare: Any, name: str) -> uw.Influence:
    objective = network(net, compare).objective()
    return uw.Influence(objective, INVERSES[name](objective.p))


@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("compare", [mean_square, smooth])
@pytest.mark.parametrize("net", NETS)
def test_upweighting_and_perturbation_are_those_of_the_whole_hessian(net: str, compare: Any, name: str) -> None:
    given = network(net, compare)
    solved = given.solved()
    wanted = -solved @ jacrev(given.losses)(given.theta, given.x, given.y).T
    found = influence(net, compare, name).attribute((given.query_x, given.query_y), quantity="upweight").scores
    close(found, wanted, rtol=1e-8, atol=1e-9 * float(wanted.abs().max()))

    def pull(x: Tensor) -> Tensor:
        own = grad(lambda t: given.losses(t, x[None], given.y[2:3])[0])(given.theta)
        return -solved[1] @ own

    moved = influence(net, compare, name).perturbation(2, (given.query_x[1:2], given.query_y[1:2]))
    expected = grad(pull)(given.x[2])
    close(moved.gradient, expected, rtol=1e-8, atol=1e-9 * float(expected.abs().max()))
