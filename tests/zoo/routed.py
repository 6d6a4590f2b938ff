"""Models in which each example, or each of its places, goes its own way."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.case import CLASSES, Case, D, N, T, classified

EXPERTS = 3


class Mixture(nn.Module):
    """The best experts of every place, each called on what goes to it."""

    def __init__(self, best: int):
        super().__init__()
        self.route, self.best = nn.Linear(D, EXPERTS), best
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(D, 5), nn.GELU(), nn.Linear(5, D)) for _ in range(EXPERTS))
        self.head = nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, D)
        weights, chosen = self.route(flat).softmax(-1).topk(self.best, -1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            row, place = (chosen == number).nonzero(as_tuple=True)
            out = out.index_add(0, row, weights[row, place, None] * expert(flat[row]))
        return self.head((flat + out).reshape(len(x), -1, D).mean(1))


class Gathered(nn.Module):
    """The weights of each place's expert are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.weights = nn.Linear(D, EXPERTS), nn.Parameter(torch.randn(EXPERTS, D, D) / 2)
        self.biases, self.head = nn.Parameter(torch.randn(EXPERTS, D)), nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.route(x).softmax(-1).max(-1)
        out = torch.einsum("bti,btio->bto", x, self.weights[chosen]) + self.biases[chosen]
        return self.head((weight[..., None] * out.tanh()).mean(1))


class Sorted(nn.Module):
    """Places sorted by expert, cut, and put back."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(D, 4) for _ in range(EXPERTS))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, D)
        expert = flat[:, :EXPERTS].argmax(1)
        order = expert.argsort(stable=True)
        parts = flat[order].split(torch.bincount(expert, minlength=EXPERTS).tolist())
        found = torch.cat([layer(part).tanh() for layer, part in zip(self.experts, parts, strict=True)])
        return self.head(found[order.argsort()].reshape(len(x), -1, 4).mean(1))


class AllAtOnce(nn.Module):
    """Every expert on every place, weighed, as one product."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.weights = nn.Linear(D, EXPERTS, bias=False), nn.Parameter(torch.randn(EXPERTS, D, 4) / 2)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        each = torch.einsum("btd,edo->bteo", x, self.weights).relu()
        return self.head(torch.einsum("bteo,bte->bo", each, self.route(x).softmax(-1)))


class Slots(nn.Module):
    """Soft mixture: each expert has slots, to which all places of an example give."""

    def __init__(self) -> None:
        super().__init__()
        self.slots, self.head = nn.Parameter(torch.randn(D, EXPERTS, 2)), nn.Linear(4, CLASSES)
        self.experts = nn.ModuleList(nn.Linear(D, 4) for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        given = torch.einsum("btd,des->btes", x, self.slots)
        taken = torch.einsum("btd,btes->ebsd", x, given.softmax(1))
        found = torch.stack([expert(part) for expert, part in zip(self.experts, taken, strict=True)])
        back = given.flatten(2).softmax(-1).reshape(given.shape)
        return self.head(torch.einsum("ebso,btes->bto", found.tanh(), back).mean(1))


class Early(nn.Module):
    """Examples leave where the first exit is sure; the others go on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.exit = nn.Linear(D, 5), nn.Linear(5, CLASSES)
        self.second, self.last = nn.Linear(5, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        out = self.exit(hidden)
        unsure = out.softmax(-1).amax(-1) < 0.45
        return out.index_put((unsure.nonzero().flatten(),), self.last(self.second(hidden[unsure]).tanh()))


class Tree(nn.Module):
    """A soft decision tree, and a hard one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.splits, self.leaves = nn.Linear(D, 3), nn.Parameter(torch.randn(4, CLASSES))
        self.hard = nn.Parameter(torch.randn(2, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        right = self.splits(x).sigmoid()
        top, low, high = right.unbind(1)
        reach = torch.stack([(1 - top) * (1 - low), (1 - top) * low, top * (1 - high), top * high], 1)
        return reach @ self.leaves + self.hard[(x[:, 0] > 0).long()]


class Capacity(nn.Module):
    """Experts that take so many places of the whole batch: an example's value depends on its company."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.expert, self.head = nn.Linear(D, 1), nn.Linear(D, D), nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        score = self.route(x)[:, 0]
        taken = score.topk(max(len(x) // 2, 1)).indices
        return self.head(x.index_add(0, taken, self.expert(x[taken]).tanh() * score[taken, None].sigmoid()))


class Keys(nn.Module):
    """A memory of values under products of keys, the best few of which are read by a bag."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.keys = nn.Linear(D, 4), nn.Parameter(torch.randn(2, 3, 2))
        self.values, self.head = nn.EmbeddingBag(9, 4, mode="sum"), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        score = torch.einsum("bhd,hkd->bhk", self.query(x).view(-1, 2, 2), self.keys)
        both = (score[:, 0, :, None] + score[:, 1, None]).flatten(1)
        best, where = both.topk(2)
        return self.head(self.values(where, per_sample_weights=best.softmax(-1)))


def places() -> Tensor:
    return torch.randn(N, T, D)


MODELS: dict[str, Callable[[], Case]] = {
    "mixture of experts, best one": lambda: classified(Mixture(1), places()),
    "mixture of experts, best two": lambda: classified(Mixture(2), places()),
    "experts' weights gathered": lambda: classified(Gathered(), places()),
    "experts' places sorted": lambda: classified(Sorted(), places()),
    "all experts at once": lambda: classified(AllAtOnce(), places()),
    "experts with slots": lambda: classified(Slots(), places()),
    "early exits": lambda: classified(Early(), torch.randn(N, D) * 2),
    "decision trees": lambda: classified(Tree(), torch.randn(N, D)),
    "product keys": lambda: classified(Keys(), torch.randn(N, D), differences=True),
    "experts with a capacity": lambda: classified(Capacity(), torch.randn(N, D), refused="depends on the other"),
    "hashed to experts": lambda: classified(
        nn.Sequential(Hashed(), nn.Tanh(), nn.Linear(4, CLASSES)), torch.randn(N, D)
    ),
}


class Hashed(nn.Module):
    """The expert of an example is a matter of its numbers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(D, 4) for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        each = (x[:, 0] * 10).long() % EXPERTS
        rows = torch.stack([expert(x) for expert in self.experts], 1)
        return rows.gather(1, each[:, None, None].expand(-1, 1, 4))[:, 0] + F.one_hot(each, 4).to(x)
