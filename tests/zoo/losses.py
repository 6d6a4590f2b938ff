"""What is minimised: pairs, several heads, labels of several kinds, densities, and losses of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from zoo.case import CLASSES, Case, D, N, classified, compared, cross_entropy, fitted, judged, named, own


@dataclass
class Out:
    logits: Tensor
    hidden: Tensor


class ToDataclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(D, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Out:
        hidden = self.body(x).tanh()
        return Out(self.head(hidden), hidden)


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Sequential(nn.Linear(D, 5), nn.ReLU(), nn.Linear(5, 3)), nn.Linear(2, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (self.left(a) * self.right(b)).sum(-1)


class Siamese(nn.Module):
    """One network for both of a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (self.body(a) - self.body(b)).pow(2).sum(-1)


class Coder(nn.Module):
    """The encoder of a variational autoencoder without its noise."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.mean, self.spread, self.decode = (nn.Linear(*s) for s in ((D, 5), (5, 2), (5, 2), (2, D)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.encode(x).tanh()
        mean, spread = self.mean(hidden), self.spread(hidden)
        return self.decode(mean), mean, spread


class Flow(nn.Module):
    """Half of the numbers scale and shift the other half, in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 4)) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for net in self.nets:
            a, b = x.chunk(2, 1)
            scale, shift = net(a).chunk(2, 1)
            x, total = torch.cat([b * scale.tanh().exp() + shift, a], 1), total + scale.tanh().sum(1)
        return x, total


class Ordinal(nn.Module):
    """One score and thresholds that rise."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.steps = (
            nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, 1)),
            nn.Parameter(torch.zeros(2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.steps.exp().cumsum(0) - 1 - self.score(x)


def cumulative(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    below = F.pad(model(x).sigmoid(), (0, 1), value=1.0)
    each = torch.diff(below, prepend=torch.zeros_like(below[:, :1]), dim=1)
    return -each.gather(1, y[:, None])[:, 0].log()


def variational(model: nn.Module, batch: Any) -> Tensor:
    (x,) = batch
    back, mean, spread = model(x)
    return ((back - x) ** 2).sum(1) + 0.5 * (spread.exp() + mean**2 - 1 - spread).sum(1)


def likelihood(model: nn.Module, batch: Any) -> Tensor:
    z, logdet = model(batch[0])
    return 0.5 * (z**2).sum(1) - logdet


def contrastive(model: nn.Module, batch: Any) -> Tensor:
    a, b, same = batch
    apart = model(a, b)
    return same * apart + (1 - same) * F.relu(2 - (apart + 1e-6).sqrt()) ** 2


def triplet(model: nn.Module, batch: Any) -> Tensor:
    return F.triplet_margin_loss(*(model(part) for part in batch), reduction="none", margin=5.0)


def gaussian(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    mean, log = model(x).chunk(2, 1)
    return (0.5 * ((y - mean) ** 2 * (-log).exp() + log)).sum(1)


def quantiles(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    off, levels = y[:, None] - model(x), torch.tensor([0.1, 0.5, 0.9]).to(x)
    return torch.maximum(levels * off, (levels - 1) * off).sum(1)


def mixed(model: nn.Module, batch: Any) -> Tensor:
    """A mixture of densities."""
    x, y = batch
    weight, mean, log = model(x).chunk(3, 1)
    return -torch.logsumexp(weight.log_softmax(1) - 0.5 * ((y[:, None] - mean) / log.exp()) ** 2 - log, 1)


def counted(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return F.poisson_nll_loss(model(x)[:, 0], y, reduction="none")


def cox(model: nn.Module, batch: Any) -> Tensor:
    """Survival, where each example is compared with those of the batch that are still at risk."""
    x, time = batch
    risk = model(x)[:, 0]
    return torch.logsumexp(torch.where(time[None] >= time[:, None], risk[None], -1e9), 1) - risk


def two_tasks(model: nn.Module, batch: Any) -> Tensor:
    x, kind, number = batch
    found = model(x)
    return F.cross_entropy(found[:, :CLASSES], kind, reduction="none") + (found[:, -1] - number) ** 2


def focal(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    log_p = model(x).log_softmax(1).gather(1, y[:, None])[:, 0]
    return -((1 - log_p.exp()) ** 2) * log_p


def penalised(model: nn.Module, batch: Any) -> Tensor:
    """A penalty on the gradient in the input, so that the loss is itself a derivative."""
    x, y = batch
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = F.binary_cross_entropy_with_logits(model(x)[:, 0], y, reduction="none")
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    return value + 0.1 * (slope**2).sum(1)


def net(outs: int, hidden: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(D, hidden), nn.Tanh(), nn.Linear(hidden, outs))


def rows(width: int = D) -> Tensor:
    return torch.randn(N, width)


def classes() -> Tensor:
    return torch.arange(N) % CLASSES


def as_dataclass() -> Case:
    plain = compared(cross_entropy, lambda out: out.logits)
    return Case(ToDataclass(), (rows(), classes()), uw.losses.CrossEntropy(), plain)


def smoothed() -> Case:
    weight = torch.tensor([1.0, 2.0, 0.5])
    loss = uw.losses.CrossEntropy(weight=weight, label_smoothing=0.2)
    plain = compared(
        lambda out, y: F.cross_entropy(out, y, weight.to(out), reduction="sum", label_smoothing=0.2), lambda out: out
    )
    return Case(net(CLASSES), (rows(), classes()), loss, plain)


def hinged() -> Case:
    plain = compared(lambda out, y: F.relu(1 - (2 * y - 1) * out[:, 0]).pow(2).sum(), lambda out: out)
    return Case(net(1), (rows(), torch.arange(N) % 2), uw.losses.SquaredHinge(), plain)


MODELS: dict[str, Callable[[], Case]] = {
    "two towers": lambda: judged(Towers(), rows(), rows(2), targets=torch.arange(N) % 2),
    "several labels": lambda: judged(net(4), rows(), targets=(torch.rand(N, 4) < 0.5).long()),
    "pairs, contrastive": lambda: own(Siamese(), contrastive, (rows(), rows(), (torch.arange(N) % 2).float())),
    "triplets": lambda: own(net(3), triplet, (rows(), rows(), rows())),
    "variational autoencoder": lambda: own(Coder(), variational, (rows(),)),
    "autoencoder": lambda: fitted(net(D, 2), x := rows(), targets=x.clone()),
    "normalising flow": lambda: own(Flow(), likelihood, (rows(),)),
    "ordered classes": lambda: own(Ordinal(), cumulative, (rows(), classes())),
    "mean and variance": lambda: own(net(4), gaussian, (rows(), rows(2))),
    "quantiles": lambda: own(net(3), quantiles, (rows(), torch.randn(N))),
    "mixture of densities": lambda: own(net(6), mixed, (rows(), torch.randn(N))),
    "counts": lambda: own(net(1), counted, (rows(), torch.tensor([0.0, 2.0, 1.0, 5.0, 3.0, 0.0]))),
    "survival by rank in the batch": lambda: own(
        net(1), cox, (rows(), torch.rand(N)), refused="depends on the other examples"
    ),
    "two tasks": lambda: own(net(4), two_tasks, (rows(), classes(), torch.randn(N))),
    "focal": lambda: own(net(3), focal, (rows(), classes())),
    "penalty on the input's gradient": lambda: own(net(1), penalised, (rows(), (torch.arange(N) % 2).float())),
    "output in a dataclass": as_dataclass,
    "weights and smoothing": smoothed,
    "squared hinge": hinged,
    "named inputs": lambda: named(Named(), lambda out: out["logits"], left=rows(), right=rows(2)),
    "probabilities as targets": lambda: classified(net(3), rows(), labels=torch.rand(N, 3).softmax(1)),
}


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(D, CLASSES), nn.Linear(2, CLASSES)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        both = self.left(left).tanh() * self.right(right)
        return {"hidden": both[:, :2], "logits": both}
