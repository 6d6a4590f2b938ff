"""Least squares with their refits in closed form, and as an influence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


class Least:
    """Least squares of several outputs by the normal equations, in one matrix per set of weights."""

    def __init__(self, outputs: int, bias: bool, l2: float, weighted: bool, n: int = 20, d: int = 3):
        self.x, self.query_x = random(1, n, d), random(2, 6, d)
        self.x[4] *= 4  # far out
        noise = random(3, n, outputs)
        self.y, self.query_y = self.x @ random(4, d, outputs) + noise, self.query_x @ random(5, d, outputs)
        self.weights = torch.linspace(0.2, 3, n, dtype=DOUBLE) if weighted else torch.ones(n, dtype=DOUBLE)
        self.bias, self.l2, self.n = bias, l2, n
        self.coefficients = self.fit(self.weights)

    def extended(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones(len(x), 1, dtype=DOUBLE)], 1) if self.bias else x

    def fit(self, weights: Tensor) -> Tensor:
        """Argmin (1/n) Σ w ½‖f − y‖² + ½ l2 ‖W‖², the intercept penalised as ``l2=`` of an objective does."""
        a = self.extended(self.x)
        matrix = a.T @ (weights[:, None] * a) / self.n + self.l2 * torch.eye(a.shape[1], dtype=DOUBLE)
        return torch.linalg.solve(matrix, a.T @ (weights[:, None] * self.y) / self.n)

    def without(self, i: int) -> Tensor:
        weights = self.weights.clone()
        weights[i] = 0
        return self.fit(weights)

    def losses(self, coefficients: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return 0.5 * ((self.extended(x) @ coefficients - y) ** 2).sum(1)

    def model(self, kind: str = "linear") -> nn.Module:
        outputs, d = self.y.shape[1], self.x.shape[1]
        if kind == "own":
            return Own(self.coefficients)
        layer = nn.Linear(d, outputs, bias=self.bias, dtype=DOUBLE)
        with torch.no_grad():
            layer.weight.copy_(self.coefficients[:d].T)
            if self.bias:
                layer.bias.copy_(self.coefficients[d])
        return layer

    def influence(self, kind: str = "linear", dtype: torch.dtype = DOUBLE, **options) -> uw.Influence:
        model, data = self.model(kind).to(dtype), (self.x.to(dtype), self.y.to(dtype))
        weights = self.weights.to(dtype)
        objective = uw.Objective(model, uw.losses.SquaredError(), data, l2=self.l2, weights=weights, **options)
        return uw.Influence(objective, uw.inverse.Dense())


class Own(nn.Module):
    """Linear in its parameters, but in no form that is known."""

    def __init__(self, coefficients: Tensor):
        super().__init__()
        self.slopes = nn.Parameter(coefficients[:-1].clone())
        self.shift = nn.Parameter(coefficients[-1].clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.slopes + self.shift
