"""Layers that other libraries, or torch, get wrong: each with its right value or refusal, and others of its kind.

What is right comes from differentiating one example at a time, from differences, or from the layer written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight.curvature import GGN
from upweight.errors import InputError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*not at an optimum"),
    pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning"),
]
CE = uw.losses.CrossEntropy()
DAMPING = 0.1


def alone(model: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> tuple[Tensor, Tensor]:
    """∇ℓ of every example ``[n, p]`` and the GGN of their mean, each example differentiated by itself."""
    parameters = [value for value in model.parameters() if value.requires_grad]
    rows, total = [], torch.zeros(())
    for i in range(len(y)):
        out = model(*(part[i : i + 1] for part in inputs))[0]
        flat = [torch.autograd.grad(o, parameters, retain_graph=True, allow_unused=True) for o in out]
        jacobian = torch.stack(
            [
                torch.cat(
                    [
                        torch.zeros_like(v).flatten() if g is None else g.to_dense().flatten()
                        for g, v in zip(row, parameters, strict=True)
                    ]
                )
                for row in flat
            ]
        )
        p = out.detach().softmax(0)
        rows.append((p - F.one_hot(y[i], len(p))) @ jacobian)
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian / len(y)
    return torch.stack(rows), total


def right(model: nn.Module, inputs: tuple[Tensor, ...], y: Tensor, l2: float) -> Tensor:
    """Removals from the first two examples' losses, by the GGN."""
    g, matrix = alone(model, inputs, y)
    matrix = matrix + (l2 + DAMPING) * torch.eye(len(matrix), dtype=DOUBLE)
    return g[:2] @ torch.linalg.solve(matrix, g.T) / len(y)


INVERSES: dict[str, Callable[[], Any]] = {
    "dense": lambda: uw.inverse.Dense(GGN(), damping=DAMPING),
    "dual": lambda: uw.inverse.Dual(GGN(), damping=DAMPING),
    "cg": lambda: uw.inverse.CG(GGN(), damping=DAMPING, tolerance=1e-12),
}


def agrees(model: nn.Module, inputs: tuple[Tensor, ...], y: Tensor, batch_size: int | None = None) -> None:
    wanted = right(model, inputs, y, 0.05)
    objective = uw.Objective(model, CE, (*inputs, y), l2=0.05, batch_size=batch_size)
    queries = (*(part[:2] for part in inputs), y[:2])
    for make in INVERSES.values():
        close(uw.Influence(objective, make()).attribute(queries).scores, wanted, rtol=1e-7, atol=1e-10)


def seeded(model: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return model().to(DOUBLE).eval()


class Between(nn.Module):
    """Something between two linear layers, on vectors or on small images."""

    def __init__(self, middle: Callable[[Tensor], Tensor], shape: tuple[int, ...] = (4,)):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.middle, self.shape = middle, shape

    def forward(self, x: Tensor) -> Tensor:
        h = self.middle(self.first(x).reshape(len(x), *self.shape))
        return self.last(h.reshape(len(x), 4))


class Attending(nn.Module):
    """Attention in which the batch is taken for a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)

    def forward(self, h: Tensor) -> Tensor:
        h = h[:, None]
        return self.attention(h, h, h, need_weights=False)[0][:, 0]


OF_THE_BATCH: dict[str, Callable[[], nn.Module]] = {
    "batch norm 1d": lambda: Between(nn.BatchNorm1d(4, track_running_stats=False)),
    "batch norm 2d": lambda: Between(nn.BatchNorm2d(2, track_running_stats=False), (2, 1, 2)),
    "batch norm 3d": lambda: Between(nn.BatchNorm3d(1, track_running_stats=False), (1, 1, 2, 2)),
    "batch norm by its function": lambda: Between(lambda h: F.batch_norm(h, None, None, training=True)),
    "centred": lambda: Between(lambda h: h - h.mean(0)),
    "softmax over examples": lambda: Between(lambda h: h.softmax(0)),
    "running sums": lambda: Between(lambda h: h.cumsum(0)),
    "attention among examples": lambda: Between(Attending()),
}


@pytest.mark.parametrize("batch_size", [None, 2, 3])
@pytest.mark.parametrize("name", OF_THE_BATCH)
def test_what_depends_on_the_other_examples_is_refused(name: str, batch_size: int | None) -> None:
    model, x = seeded(OF_THE_BATCH[name]), torch.randn(8, 3, dtype=DOUBLE)
    with pytest.raises(InputError, match=r"loss: .*(depends on|a batch of 1)"):
        uw.Objective(model, CE, (x, torch.arange(8) % 2), l2=0.05, batch_size=batch_size)


OF_ITSELF: dict[str, Callable[[], nn.Module]] = {
    "running statistics": lambda: Between(nn.BatchNorm1d(4)),
    "instance norm": lambda: Between(nn.InstanceNorm1d(2, affine=True), (2, 2)),
    "group norm": lambda: Between(nn.GroupNorm(2, 4)),
    "layer norm": lambda: Between(nn.LayerNorm(4)),
    "root mean square": lambda: Between(nn.RMSNorm(4)),
}


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("name", OF_ITSELF)
def test_norms_within_an_example_are_right_in_any_batch(name: str, batch_size: int | None) -> None:
    x = torch.randn(8, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(3))
    agrees(seeded(OF_ITSELF[name]), (x,), torch.arange(8) % 2, batch_size)


class Tokens(nn.Module):
    """Embedded tokens, something over them with a mask of padding, and their mean over all places."""

    def __init__(self, body: Callable[[], nn.Module]):
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(12, 8), body(), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, padding = self.embed(x), x == 0
        if isinstance(self.body, nn.MultiheadAttention):
            h = self.body(h, h, h, key_padding_mask=padding, need_weights=False)[0]
        else:
            h = self.body(h, src_key_padding_mask=padding)
        return self.head(h.mean(1))


def encoder_layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0, **options)


PADDED: dict[str, Callable[[], nn.Module]] = {
    "encoder": lambda: nn.TransformerEncoder(encoder_layer(), 1),
    "two layers": lambda: nn.TransformerEncoder(encoder_layer(activation="gelu"), 2),
    "norm first": lambda: nn.TransformerEncoder(encoder_layer(norm_first=True), 1, enable_nested_tensor=False),
    "not nested": lambda: nn.TransformerEncoder(encoder_layer(), 1, enable_nested_tensor=False),
    "one layer": encoder_layer,
    "attention alone": lambda: nn.MultiheadAttention(8, 2, batch_first=True),
}


@pytest.mark.parametrize("name", PADDED)
def test_padded_attention_is_one_function(name: str) -> None:
    model = seeded(lambda: Tokens(PADDED[name]))
    x = torch.randint(1, 12, (8, 6), generator=torch.Generator().manual_seed(1))
    x[::2, 4:], x[::3, 3:] = 0, 0
    y = torch.arange(8) % 2
    objective = uw.Objective(model, CE, (x, y), l2=0.01)
    direction = torch.randn(objective.p, dtype=DOUBLE)
    ahead, back = (objective.risk(objective.params + sign * 1e-5 * direction) for sign in (1, -1))
    assert abs(float(objective.gradient() @ direction) - (ahead - back) / 2e-5) < 1e-6
    with torch.enable_grad():
        close(objective.outputs(), model(x).detach())
    agrees(model, (x,), y)


class Rows(nn.Module):
    """The nodes of all examples in one list, pooled by the example they belong to."""

    def __init__(self, pool: Callable[[Tensor, Tensor, int], Tensor]):
        super().__init__()
        self.first, self.last, self.pool = nn.Linear(2, 4), nn.Linear(4, 2), pool

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        owner = mask.nonzero()[:, 0]
        return self.last(self.pool(torch.tanh(self.first(x[mask])), owner, len(x)))


def largest(rows: Tensor, owner: Tensor, count: int) -> Tensor:
    empty = rows.new_full((count, rows.shape[1]), -2.0)
    return empty.scatter_reduce(0, owner[:, None].expand_as(rows), rows, "amax")


def attentive(rows: Tensor, owner: Tensor, count: int) -> Tensor:
    """Weights of a softmax within each example."""
    scores = rows.sum(1).exp()
    total = scores.new_zeros(count).index_add(0, owner, scores)
    return rows.new_zeros(count, rows.shape[1]).index_add(0, owner, rows * (scores / total[owner])[:, None])


POOLED: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "mean": lambda r, o, n: r.new_zeros(n, 4).index_add(0, o, r) / torch.bincount(o, minlength=n)[:, None],
    "sum": lambda r, o, n: r.new_zeros(n, 4).scatter_add(0, o[:, None].expand_as(r), r),
    "largest": largest,
    "attentive": attentive,
    "running sums": lambda r, o, n: r.cumsum(0)[torch.bincount(o, minlength=n).cumsum(0) - 1].diff(
        dim=0, prepend=r.new_zeros(1, 4)
    ),
}
LENGTHS = [[2, 1, 3, 2, 3, 1, 2], [2, 1, 3, 2, 3, 3, 2], [1, 2, 1, 3, 1, 1]]


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("name", POOLED)
def test_rows_of_unequal_number_are_differentiated_by_example(
    name: str, lengths: list[int], batch_size: int | None
) -> None:
    n = len(lengths)
    mask = torch.arange(3)[None] < torch.tensor(lengths)[:, None]
    x = torch.randn(n, 3, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    agrees(seeded(lambda: Rows(POOLED[name])), (x, mask), torch.arange(n) % 2, batch_size)


class Looked(nn.Module):
    """A table, looked up by a layer or by a function."""

    def __init__(self, look: Callable[[nn.Module, Tensor], Tensor], table: nn.Module):
        super().__init__()
        self.table, self.last, self.look = table, nn.Linear(6, 2), look

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.look(self.table, x).flatten(1)))


def layer(table: nn.Module, x: Tensor) -> Tensor:
    return table(x)


TABLES: dict[str, Callable[[bool], nn.Module]] = {
    "table": lambda sparse: Looked(layer, nn.Embedding(7, 3, sparse=sparse)),
    "padded": lambda sparse: Looked(layer, nn.Embedding(7, 3, padding_idx=2, sparse=sparse)),
    "bag of sums": lambda sparse: Looked(layer, nn.EmbeddingBag(7, 6, mode="sum", sparse=sparse)),
    "bag of means": lambda sparse: Looked(layer, nn.EmbeddingBag(7, 6, padding_idx=1, sparse=sparse)),
    "by the function": lambda sparse: Looked(
        lambda table, x: F.embedding(x, table.weight, sparse=sparse), nn.Embedding(7, 3)
    ),
    "scaled by frequency": lambda sparse: Looked(layer, nn.Embedding(7, 3, scale_grad_by_freq=sparse, sparse=False)),
    "bag scaled by frequency": lambda sparse: Looked(layer, nn.EmbeddingBag(7, 6, scale_grad_by_freq=sparse)),
    "used twice": lambda sparse: Looked(
        lambda table, x: table(x) * table(x.flip(1)).sigmoid(), nn.Embedding(7, 3, sparse=sparse)
    ),
}


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_tables_of_sparse_or_scaled_gradients_are_the_same_function(name: str, sparse: bool) -> None:
    ids = torch.randint(0, 7, (8, 2), generator=torch.Generator().manual_seed(2))
    dense = seeded(lambda: TABLES[name](False))
    wanted = right(dense, (ids,), torch.arange(8) % 2, 0.05)
    model = seeded(lambda: TABLES[name](sparse))
    objective = uw.Objective(model, CE, (ids, torch.arange(8) % 2), l2=0.05)
    for make in INVERSES.values():
        found = uw.Influence(objective, make()).attribute((ids[:2], torch.arange(2))).scores
        close(found, wanted, rtol=1e-7, atol=1e-10)
