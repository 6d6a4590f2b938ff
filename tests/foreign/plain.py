"""Gradients, Hessians and Gauss-Newton matrices of small problems by torch.func, one plain definition after another.

Nothing here is the package's but the name of the loss it is asked to use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

import upweight as uw
from problems import DOUBLE, unflatten


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """½‖f − y‖² of each example."""
    return 0.5 * ((outputs - targets).flatten(1) ** 2).sum(1)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """−log p(y) of each example, summed over positions."""
    own = outputs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return (outputs.logsumexp(-1) - own).reshape(len(outputs), -1).sum(1)


LOSSES: dict[Callable[[Tensor, Tensor], Tensor], Any] = {
    squares: uw.losses.SquaredError(),
    cross_entropy: uw.losses.CrossEntropy(),
}


@dataclass(frozen=True, eq=False)
class Plain:
    model: nn.Module
    compare: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    l2: float = 0.0
    weights: Tensor | None = None

    @property
    def n(self) -> int:
        return len(self.x)

    @property
    def theta(self) -> Tensor:
        return torch.cat([value.detach().flatten() for value in self.model.parameters()])

    @property
    def counts(self) -> Tensor:
        return (torch.ones(self.n, dtype=DOUBLE) if self.weights is None else self.weights) / self.n

    def objective(self, **options: Any) -> uw.Objective:
        options = {"l2": self.l2, "weights": self.weights, **options}
        return uw.Objective(self.model, LOSSES[self.compare], (self.x, self.y), **options)

    def outputs(self, theta: Tensor, x: Tensor | None = None) -> Tensor:
        return functional_call(self.model, unflatten(self.model, theta), (self.x if x is None else x,))

    def losses(self, theta: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        return self.compare(self.outputs(theta, x), self.y if y is None else y)

    def risk(self, theta: Tensor) -> Tensor:
        return self.counts @ self.losses(theta) + 0.5 * self.l2 * theta @ theta

    def gradients(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """∇ℓ of every example, unweighted."""
        return jacrev(self.losses)(self.theta, x, y)

    def hessian(self) -> Tensor:
        return hessian(self.risk)(self.theta)

    def jacobians(self) -> Tensor:
        """Of all outputs of every example, ``[n, outputs, p]``."""
        return jacrev(self.outputs)(self.theta).reshape(self.n, -1, len(self.theta))

    def output_hessians(self) -> Tensor:
        """Of the loss in the outputs of every example, ``[n, outputs, outputs]``."""
        found = []
        for out, target in zip(self.outputs(self.theta), self.y, strict=True):
            matrix = hessian(lambda z, target=target: self.compare(z[None], target[None])[0])(out)
            found.append(matrix.reshape(out.numel(), out.numel()))
        return torch.stack(found).detach()

    def example_ggns(self) -> Tensor:
        """JᵀΛJ of every example, unweighted, ``[n, p, p]``."""
        jacobians = self.jacobians()
        return torch.einsum("ncp,ncd,ndq->npq", jacobians, self.output_hessians(), jacobians)

    def ggn(self) -> Tensor:
        """Of the risk, with the penalty."""
        size = len(self.theta)
        return torch.einsum("n,npq->pq", self.counts, self.example_ggns()) + self.l2 * torch.eye(size, dtype=DOUBLE)

    def layers(self) -> Tensor:
        """The number of the layer that each entry of θ belongs to."""
        prefixes = [name.rpartition(".")[0] for name, _ in self.model.named_parameters()]
        order = {prefix: number for number, prefix in enumerate(dict.fromkeys(prefixes))}
        sizes = [value.numel() for value in self.model.parameters()]
        return torch.cat([torch.full((s,), order[prefix]) for prefix, s in zip(prefixes, sizes, strict=True)])

    def by_layer(self, matrix: Tensor) -> Tensor:
        """A matrix without what stands between two layers."""
        number = self.layers()
        return matrix * (number[:, None] == number)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def weights_of(n: int, seed: int = 9) -> Tensor:
    return 0.5 + drawn(seed, n).abs()


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(seed)
    return make().to(DOUBLE).eval()
