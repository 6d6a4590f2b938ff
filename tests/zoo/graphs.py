"""Graphs, sets and clouds of points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from zoo.case import CLASSES, Case, D, N, classified, compared, cross_entropy, longer, mask, whole

V = 5


class Dense(nn.Module):
    """Graph convolutions by each graph's own adjacency."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(D, 5), nn.Linear(5, 5, bias=False), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        degrees = near.sum(-1).clamp_min(1).rsqrt()
        near = degrees[:, :, None] * near * degrees[:, None]
        return self.head((near @ self.second((near @ self.first(x)).relu())).tanh().mean(1))


class Sparse(nn.Module):
    """One sparse graph for all examples, which differ in what its nodes carry."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("near", (torch.rand(V, V) < 0.5).float().to_sparse())
        self.first, self.head = nn.Linear(D, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.first(x).transpose(0, 1).reshape(V, -1)
        mixed = torch.sparse.mm(self.near, rows).reshape(V, len(x), 4)
        return self.head(mixed.tanh().mean(0))


class Transductive(nn.Module):
    """Examples are nodes of one graph, whose features belong to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("x", torch.randn(9, D))
        self.register_buffer("near", (torch.rand(9, 9) < 0.4).float() / 3)
        self.first, self.second = nn.Linear(D, 5), nn.Linear(5, CLASSES)

    def forward(self, node: Tensor) -> Tensor:
        return (self.near @ self.second((self.near @ self.first(self.x)).relu()))[node]


class Messages(nn.Module):
    """Graphs joined to one: edges send messages, which their targets add up, and each graph adds its nodes."""

    def __init__(self, *, attention: bool = False):
        super().__init__()
        self.enter, self.send, self.update = nn.Linear(D, 4), nn.Linear(8, 4), nn.GRUCell(4, 4)
        self.score = nn.Linear(8, 1) if attention else None
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, near: Tensor, here: Tensor) -> Tensor:
        graph, place = here.nonzero().unbind(1)
        number = torch.zeros_like(here, dtype=torch.long)
        number[graph, place] = torch.arange(len(graph))
        g, i, j = (near.bool() & here[:, :, None] & here[:, None]).nonzero().unbind(1)
        source, target = number[g, i], number[g, j]
        rows = self.enter(x[here]).tanh()
        for _ in range(2):
            pairs = torch.cat([rows[source], rows[target]], 1)
            sent = self.send(pairs).relu()
            if self.score is not None:
                weight = F.leaky_relu(self.score(pairs)).exp()
                total = weight.new_zeros(len(rows), 1).index_add(0, target, weight)
                sent = sent * weight / total[target]
            rows = self.update(torch.zeros_like(rows).index_add(0, target, sent), rows)
        pooled = rows.new_zeros(len(x), 4).scatter_add(0, graph[:, None].expand(-1, 4), rows)
        return self.head(pooled)


class Pooling(nn.Module):
    """The best nodes of each graph, by a learnt projection, and attention among them."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.rank, self.head = nn.Linear(D, 4), nn.Parameter(torch.randn(4)), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        rows = (near @ self.enter(x)).tanh()
        best, where = (rows @ self.rank / self.rank.norm()).topk(3, 1)
        kept = rows.gather(1, where[..., None].expand(-1, -1, 4)) * best.tanh()[..., None]
        return self.head(kept.amax(1))


class EdgeConv(nn.Module):
    """Points and their nearest ones."""

    def __init__(self) -> None:
        super().__init__()
        self.edge, self.head = (
            nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4), nn.LeakyReLU()),
            nn.Linear(4, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x, x).topk(3, largest=False).indices
        others = x[torch.arange(len(x))[:, None, None], nearest]
        pairs = torch.cat([x[:, :, None].expand_as(others), others - x[:, :, None]], -1)
        return self.head(self.edge(pairs.permute(0, 3, 1, 2)).amax(-1).amax(-1))


class SetAttention(nn.Module):
    """Induced points look at a set, and the set at them; a seed pools."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.points, self.seed = (
            nn.Linear(D, 4),
            nn.Parameter(torch.randn(1, 2, 4)),
            nn.Parameter(torch.randn(1, 1, 4)),
        )
        self.down, self.up, self.pool = (nn.MultiheadAttention(4, 2, batch_first=True) for _ in range(3))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, here: Tensor) -> Tensor:
        x = self.enter(x)
        seen = self.down(self.points.expand(len(x), -1, -1), x, x, key_padding_mask=~here)[0]
        x = x + self.up(x, seen, seen)[0]
        return self.head(self.pool(self.seed.expand(len(x), -1, -1), x, x, key_padding_mask=~here)[0][:, 0])


class DeepSet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.each, self.all = nn.Sequential(nn.Linear(D, 5), nn.ReLU()), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor, here: Tensor) -> Tensor:
        return self.all((self.each(x) * here[..., None]).sum(1))


class Joined(nn.Module):
    """Graphs that a collate function joins: nodes and edges of all in one list each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(D, 4), nn.Linear(4, CLASSES)

    def forward(self, count: Tensor, x: Tensor, owner: Tensor, edges: Tensor) -> Tensor:
        rows = self.first(x).relu()
        rows = rows + torch.zeros_like(rows).index_add(0, edges[1], rows[edges[0]])
        return self.head(rows.new_zeros(len(count), 4).index_add(0, owner, rows))


def join(examples: list[Any]) -> tuple[Tensor, ...]:
    """One count for each graph first, so that a batch says how many it holds."""
    counts = torch.tensor([len(x) for x, _, _ in examples])
    starts = counts.cumsum(0) - counts
    edges = torch.cat([edge + start for (_, edge, _), start in zip(examples, starts, strict=True)], 1)
    owner = torch.arange(len(examples)).repeat_interleave(counts)
    return counts, torch.cat([x for x, _, _ in examples]), owner, edges, torch.tensor([y for _, _, y in examples])


def collated() -> Case:
    data = [
        (torch.randn(k, D), torch.randint(0, k, (2, k + 1)), place % CLASSES)
        for place, k in enumerate((3, 2, 4, 1, 3, 2))
    ]
    plain = compared(cross_entropy, whole)
    return Case(Joined(), data, uw.losses.CrossEntropy(), plain, collate=join)


def adjacency() -> Tensor:
    near = (torch.rand(N, V, V) < 0.5).float()
    return (near + near.mT + torch.eye(V) > 0).float()


def nodes() -> Tensor:
    return torch.randn(N, V, D)


def of_sizes(model: nn.Module) -> Case:
    return classified(model, nodes(), mask(), padded=lambda data: longer(data, {0: 3.0, 1: False}))


MODELS: dict[str, Callable[[], Case]] = {
    "graph convolution, dense": lambda: classified(Dense(), nodes(), adjacency()),
    "graph convolution, sparse": lambda: classified(Sparse(), nodes()),
    "nodes of one graph": lambda: classified(Transductive(), torch.tensor([3, 0, 8, 5, 1, 6])),
    "messages between nodes": lambda: classified(Messages(), nodes(), adjacency(), mask()),
    "messages with attention": lambda: classified(Messages(attention=True), nodes(), adjacency(), mask()),
    "pooling of graphs": lambda: classified(Pooling(), nodes(), adjacency()),
    "points and their neighbours": lambda: classified(EdgeConv(), torch.randn(N, 6, 3)),
    "cloud of points": lambda: classified(
        nn.Sequential(nn.Conv1d(3, 5, 1), nn.BatchNorm1d(5), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(),
                      nn.Linear(5, CLASSES)),
        torch.randn(N, 3, 7),
    ),
    "set with attention": lambda: of_sizes(SetAttention()),
    "set summed": lambda: of_sizes(DeepSet()),
    "graphs joined by the collate function": collated,
}  # fmt: skip
