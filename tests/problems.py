"""Small problems with their truth from torch.func and closed forms, independent of the package.

A problem is a model at an optimum of Σ_i c_i ℓ_i(θ) + ½λ‖θ‖², by default c_i = 1/n. Everything the package computes
by clever ways is computed here by the plain one: whole Hessians, one gradient per example, refits by Newton.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

import upweight as uw

DOUBLE = torch.float64


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs.squeeze(-1) - targets) ** 2


def logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    return -F.logsigmoid((2 * targets - 1) * outputs.squeeze(-1))


def softmax(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.logsumexp(-1) - outputs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


LOSSES: dict[Callable[[Tensor, Tensor], Tensor], Callable[[], Any]] = {
    squared: uw.losses.SquaredError,
    logistic: uw.losses.BinaryLogistic,
    softmax: uw.losses.CrossEntropy,
}


def unflatten(model: nn.Module, theta: Tensor) -> dict[str, Tensor]:
    parts, start = {}, 0
    for name, value in model.named_parameters():
        parts[name] = theta[start : start + value.numel()].reshape(value.shape)
        start += value.numel()
    return parts


@dataclass(frozen=True, eq=False)
class Problem:
    model: nn.Module
    compare: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    query_x: Tensor
    query_y: Tensor
    l2: float

    @property
    def n(self) -> int:
        return len(self.x)

    @property
    def theta(self) -> Tensor:
        return torch.cat([value.detach().flatten() for value in self.model.parameters()])

    @property
    def queries(self) -> tuple[Tensor, Tensor]:
        return self.query_x, self.query_y

    def objective(self, **options: Any) -> uw.Objective:
        arguments = {"loss": LOSSES[self.compare](), "data": (self.x, self.y), "l2": self.l2, **options}
        return uw.Objective(self.model, arguments.pop("loss"), arguments.pop("data"), **arguments)

    def losses(self, theta: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        x, y = (self.x, self.y) if x is None or y is None else (x, y)
        return self.compare(functional_call(self.model, unflatten(self.model, theta), (x,)), y)

    def query_losses(self, theta: Tensor) -> Tensor:
        return self.losses(theta, *self.queries)

    def risk(self, theta: Tensor, counts: Tensor | None = None) -> Tensor:
        counts = torch.full((self.n,), 1 / self.n, dtype=theta.dtype) if counts is None else counts
        return counts @ self.losses(theta) + 0.5 * self.l2 * theta @ theta

    def gradients(self) -> Tensor:
        return jacrev(self.losses)(self.theta)

    def query_gradients(self) -> Tensor:
        return jacrev(self.query_losses)(self.theta)

    def hessian(self, counts: Tensor | None = None) -> Tensor:
        return hessian(self.risk)(self.theta, counts)

    def example_hessians(self) -> Tensor:
        return hessian(self.losses)(self.theta)

    def ggn(self) -> Tensor:
        """The generalised Gauss-Newton matrix of the risk, with the penalty."""
        counts = torch.full((self.n,), 1 / self.n, dtype=DOUBLE)
        return self.ggn_of(counts) + self.l2 * torch.eye(len(self.theta), dtype=DOUBLE)

    def ggn_of(self, counts: Tensor) -> Tensor:
        """Of Σ_i c_i ℓ_i: from the Jacobian of all outputs and the Hessian of the loss in each example's outputs."""

        def outputs(theta: Tensor) -> Tensor:
            return functional_call(self.model, unflatten(self.model, theta), (self.x,)).flatten(1)

        jacobian, at = jacrev(outputs)(self.theta), outputs(self.theta)
        middle = torch.stack(
            [hessian(lambda z, y=y: self.compare(z[None], y[None])[0])(z) for z, y in zip(at, self.y, strict=True)]
        )
        return torch.einsum("n,ncp,ncd,ndq->pq", counts, jacobian, middle, jacobian)

    def optimum(self, counts: Tensor | None = None, steps: int = 50) -> Tensor:
        """Newton from the present θ."""
        theta = self.theta
        for _ in range(steps):
            gradient = jacrev(self.risk)(theta, counts)
            if gradient.norm() < 1e-14:
                break
            theta = theta - torch.linalg.solve(hessian(self.risk)(theta, counts), gradient)
        assert gradient.norm() < 1e-12
        return theta

    def counts_without(self, members: Any, *, renormalize: bool = False) -> Tensor:
        members = np.atleast_1d(members)
        left = self.n - len(members) if renormalize else self.n
        counts = torch.full((self.n,), 1 / left, dtype=DOUBLE)
        counts[members] = 0
        return counts

    def at_optimum(self, **changes: Any) -> Problem:
        changed = replace(self, **changes)
        return replace(changed, model=with_parameters(changed.model, changed.optimum()))


def with_parameters(model: nn.Module, theta: Tensor) -> nn.Module:
    model = copy.deepcopy(model)
    model.load_state_dict(unflatten(model, theta), strict=False)
    return model


def _inputs(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@cache
def convex(name: str, n: int = 24, d: int = 3, l2: float = 0.05) -> Problem:
    """Ridge, logistic or softmax regression at its optimum (ridge and softmax with a bias, logistic without)."""
    x, query_x = _inputs(1, n, d), _inputs(2, 5, d)
    noisy = x @ _inputs(3, d, 3) + _inputs(4, n, 3)
    query_z = query_x @ _inputs(3, d, 3)
    if name == "ridge":
        targets, query_y, compare, model = noisy[:, 0], query_z[:, 0], squared, nn.Linear(d, 1)
    elif name == "logistic":
        targets, query_y = (noisy[:, 0] > 0).long(), (query_z[:, 0] > 0.3).long()
        compare, model = logistic, nn.Linear(d, 1, bias=False)
    else:
        targets, query_y, compare, model = noisy.argmax(1), query_z.argmax(1), softmax, nn.Linear(d, 3)
    for value in model.parameters():
        nn.init.zeros_(value)
    return Problem(model.to(DOUBLE).eval(), compare, x, targets, query_x, query_y, l2).at_optimum()


@cache
def mlp(n: int = 30, l2: float = 0.02) -> Problem:
    """A tanh network with softmax outputs, at a local minimum where the Hessian is positive definite."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(DOUBLE).eval()
    source = convex("softmax", n=n)
    problem = replace(source, model=model, l2=l2)

    def risk(theta: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(theta).requires_grad_()
        value = problem.risk(point)
        return value.item(), torch.autograd.grad(value, point)[0].numpy()

    found = minimize(risk, problem.theta.numpy(), jac=True, method="BFGS", options={"gtol": 1e-7})
    return replace(problem, model=with_parameters(model, torch.from_numpy(found.x))).at_optimum()


@cache
def conv(n: int = 8) -> Problem:
    """A small convolutional network, untrained."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3)).to(DOUBLE)
    x, y = _inputs(6, n, 1, 6, 6), torch.arange(n) % 3
    return Problem(model.eval(), softmax, x, y, x[:3] + 1, y[:3], 0.01)


def close(actual: Any, expected: Any, rtol: float = 1e-9, atol: float = 1e-11) -> None:
    """Equal to rounding in float64."""
    tensors = [
        value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value)) for value in (actual, expected)
    ]
    torch.testing.assert_close(*tensors, rtol=rtol, atol=atol, check_dtype=False)


def minimised(objective: uw.Objective) -> uw.Objective:
    """A small network near a minimum, by torch's own L-BFGS."""
    theta = objective.params.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([theta], max_iter=300, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        risks, gradients = objective.risks_and_gradients(theta.detach()[None])
        theta.grad = gradients[0]
        return risks[0]

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return objective.at(theta.detach())
