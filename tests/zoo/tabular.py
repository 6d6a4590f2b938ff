"""Networks of tables, ids and coordinates, and layers of mathematics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import CLASSES, Case, D, N, T, classified, fitted, judged, named, tokens


class Complex(nn.Module):
    """Complex numbers inside, made of two real layers, and modulus and phase out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.imaginary, self.head = nn.Linear(D, 4), nn.Linear(D, 4), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.complex(self.real(x), self.imaginary(x))
        z = z * z.conj().roll(1, -1) + torch.exp(1j * z.real)
        return self.head(torch.cat([z.abs(), z.angle()], 1))


class Spectral(nn.Module):
    """A neural operator: weights of complex frequencies, held as pairs of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.weights, self.out = (
            nn.Conv1d(1, 3, 1),
            nn.Parameter(torch.randn(3, 3, 3, 2) / 3),
            nn.Conv1d(3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        rows = self.lift(x)
        modes = torch.fft.rfft(rows)
        low = torch.einsum("bim,iom->bom", modes[..., :3], torch.view_as_complex(self.weights))
        return self.out(F.gelu(torch.fft.irfft(F.pad(low, (0, modes.shape[-1] - 3)), rows.shape[-1]) + rows))


class Positional(nn.Module):
    """Coordinates by sines of many frequencies, colours and a density that are blended along a ray."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(3))
        self.body, self.head = (
            nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 6), nn.Softplus()),
            nn.Linear(6, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        angles = (x[..., None] * self.frequencies).flatten(-2)
        found = self.head(self.body(torch.cat([angles.sin(), angles.cos()], -1)))
        opacity = 1 - torch.exp(-F.softplus(found[..., 0]))
        clear = torch.cumprod(torch.cat([torch.ones_like(opacity[:, :1]), 1 - opacity + 1e-6], 1), 1)[:, :-1]
        return ((clear * opacity)[..., None] * found[..., 1:].sigmoid()).sum(1)


class Sines(nn.Module):
    """Sines as activations, and a field's gradient in its input as the output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.sin(3 * self.first(x))
        slope = (torch.cos(3 * self.first(x)) * self.second.weight) @ self.first.weight * 3
        return torch.cat([self.second(hidden), slope], 1)


class Bags(nn.Module):
    """Bags of ids by offsets: all ids of a batch in one list."""

    def __init__(self, mode: str):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(11, 4, mode=mode, include_last_offset=True), nn.Linear(4, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        there = ids > 0
        ends = torch.cat([torch.zeros(1, dtype=torch.long), there.sum(1).cumsum(0)])
        return self.head(self.bag(ids[there], ends))


class Recommender(nn.Module):
    """Wide and deep with a factorisation machine, from columns by name."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({key: nn.Embedding(size, 3) for key, size in {"user": 7, "item": 5}.items()})
        self.wide = nn.ModuleDict({key: nn.Embedding(size, 1) for key, size in {"user": 7, "item": 5}.items()})
        self.price, self.deep = nn.Linear(1, 3), nn.Sequential(nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, CLASSES))

    def forward(self, user: Tensor, item: Tensor, price: Tensor) -> dict[str, Tensor]:
        parts = [self.tables["user"](user), self.tables["item"](item), self.price(price[:, None])]
        stacked = torch.stack(parts, 1)
        crossed = 0.5 * (stacked.sum(1) ** 2 - (stacked**2).sum(1)).sum(1, keepdim=True)
        wide = self.wide["user"](user) + self.wide["item"](item)
        return {"crossed": crossed, "logits": self.deep(stacked.flatten(1)) + crossed + wide}


class Columns(nn.Module):
    """A transformer over columns, each with its own vector and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(D, 4)), nn.Parameter(torch.randn(D, 4))
        self.token, self.norm = nn.Parameter(torch.randn(4)), nn.LayerNorm(4)
        self.look, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = x[..., None] * self.scale + self.shift
        rows = torch.cat([self.token.expand(len(x), 1, 4), rows], 1)
        return self.head(self.norm(rows + self.look(rows, rows, rows)[0])[:, 0])[:, 0]


class Radial(nn.Module):
    """Distances to centres."""

    def __init__(self) -> None:
        super().__init__()
        self.centres, self.widths, self.head = (
            nn.Parameter(torch.randn(5, D)),
            nn.Parameter(torch.rand(5)),
            nn.Linear(5, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.exp(-self.widths * torch.cdist(x, self.centres) ** 2))


class Splines(nn.Module):
    """A function of its own on every edge, by hat functions on a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2, 2, 5))
        self.first, self.second = nn.Parameter(torch.randn(D, 5, 3)), nn.Parameter(torch.randn(3, 5, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        for weight in (self.first, self.second):
            hats = (1 - (x[..., None] - self.grid).abs()).clamp_min(0) + 0.1 * torch.exp(
                -((x[..., None] - self.grid) ** 2)
            )
            x = torch.einsum("big,igo->bo", hats, weight) / 2
        return x


class Solved(nn.Module):
    """Linear algebra inside: a system solved, a determinant, an exponential, for each example and for all."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.twist, self.head = nn.Linear(D, 9), nn.Parameter(torch.randn(3, 3) / 3), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        root = self.kernel(x).view(-1, 3, 3)
        matrix = root @ root.mT + torch.eye(3).to(x)
        solved = torch.cholesky_solve(x[:, :3, None], torch.linalg.cholesky(matrix))[..., 0]
        turned = solved @ torch.linalg.matrix_exp(self.twist - self.twist.T)
        return self.head(torch.cat([turned, torch.linalg.slogdet(matrix)[1][:, None]], 1))


class Tensors(nn.Module):
    """A weight that is a product of small cores, and one of outer products."""

    def __init__(self) -> None:
        super().__init__()
        self.cores = nn.ParameterList([torch.randn(2, 2, 2), torch.randn(2, 2, 2, 2)])
        self.factors = nn.ParameterDict({"a": torch.randn(CLASSES, 2), "b": torch.randn(D, 2), "c": torch.randn(D, 2)})

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.einsum("iar,rjbs->ijabs", *self.cores).sum(-1).reshape(D, D)
        x = torch.tanh(x @ weight)
        return torch.einsum("ni,nj,cr,ir,jr->nc", x, x, *(self.factors[key] for key in "abc"))


class Gates(nn.Module):
    """Highways, maxima of several layers, gates of features, and products of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.body, self.several = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 6)
        self.pair, self.head = nn.Bilinear(D, 3, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        open_ = self.gate(x).sigmoid()
        x = open_ * self.body(x).relu() + (1 - open_) * x
        return self.head(self.pair(x, self.several(x).view(-1, 3, 2).amax(-1)).tanh())


class Hopfield(nn.Module):
    """Stored patterns, retrieved by a few steps."""

    def __init__(self) -> None:
        super().__init__()
        self.patterns, self.beta, self.head = (
            nn.Parameter(torch.randn(5, D)),
            nn.Parameter(torch.tensor(0.7)),
            nn.Linear(D, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = (self.beta * x @ self.patterns.T).softmax(-1) @ self.patterns
        return self.head(x)


class Normed(nn.Module):
    """Cosines with class vectors, times a learnt temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classes, self.heat = (
            nn.Linear(D, 5),
            nn.Parameter(torch.randn(CLASSES, 5)),
            nn.Parameter(torch.zeros(())),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.heat.exp() * 4 * F.normalize(self.body(x), dim=-1) @ F.normalize(self.classes, dim=-1).T


def rows() -> Tensor:
    return torch.randn(N, D)


def mlp(*layers: nn.Module) -> Case:
    return classified(nn.Sequential(nn.Linear(D, 5), *layers, nn.Linear(5, CLASSES)), rows())


def bags(mode: str, **options: Any) -> Case:
    ids = torch.where(torch.rand(N, T).argsort(1) < torch.tensor([[2], [5], [1], [3], [4], [2]]), tokens(), 0)
    return classified(Bags(mode), ids, **options)


MODELS: dict[str, Callable[[], Case]] = {
    "complex numbers inside": lambda: classified(Complex(), rows()),
    "Fourier neural operator": lambda: fitted(Spectral(), torch.randn(N, 1, 8), targets=torch.randn(N, 1, 8)),
    "radiance along rays": lambda: fitted(Positional(), torch.randn(N, T, 2), targets=torch.rand(N, 3)),
    "sines and their slopes": lambda: fitted(Sines(), torch.randn(N, 2), targets=torch.randn(N, 3)),
    "bags of any length, mean": lambda: bags("mean", differences=True),
    "bags of any length, sum": lambda: bags("sum", differences=True),
    "recommender of named columns": lambda: named(
        Recommender(), lambda out: out["logits"], user=torch.tensor([0, 3, 6, 3, 1, 0]),
        item=torch.tensor([4, 0, 1, 1, 2, 4]), price=torch.rand(N),
    ),
    "columns as tokens": lambda: judged(Columns(), rows(), targets=torch.arange(N) % 2),
    "radial basis": lambda: classified(Radial(), rows(), once="_cdist_backward"),
    "splines on edges": lambda: classified(Splines(), rows()),
    "linear algebra inside": lambda: classified(Solved(), rows()),
    "products of cores": lambda: classified(Tensors(), rows()),
    "highway, maxout and bilinear": lambda: classified(Gates(), rows()),
    "stored patterns": lambda: classified(Hopfield(), rows()),
    "cosines with a temperature": lambda: classified(Normed(), rows()),
    "several activations": lambda: mlp(nn.Hardswish(), nn.Linear(5, 5), nn.CELU(), nn.Softsign(), nn.Linear(5, 5),
                                       nn.LogSigmoid(), nn.Linear(5, 5), nn.RReLU(), nn.Tanhshrink()),
    "norms of one number each": lambda: mlp(nn.BatchNorm1d(5), nn.SiLU(), nn.Linear(5, 5), nn.LayerNorm(5), nn.Mish()),
    "alpha dropout off": lambda: mlp(nn.SELU(), nn.AlphaDropout(0.3)),
    "one linear layer": lambda: classified(nn.Linear(D, CLASSES), rows()),
}  # fmt: skip
