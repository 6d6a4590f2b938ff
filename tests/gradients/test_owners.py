"""Operations whose rows are not examples × positions: every batch says itself whose each row is.

Ragged batches, in any order and any batch size, against differentiating one example at a time.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import upweight as uw
from problems import DOUBLE, close
from upweight.gradients.owners import BASE, Examples, Owned, lying, owners, seeds

T, D = 4, 3


class Ragged(nn.Module):
    """Takes padded inputs ``[b, T, D]`` and a mask of those that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(D, 4), nn.Linear(4, 2)

    def lengths(self, mask: Tensor) -> Tensor:
        return mask.sum(1, keepdim=True)


class Unpadded(Ragged):
    """The rows that are there, pooled by owner."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows = self.first(x[mask]).tanh()
        pooled = rows.new_zeros(len(x), 4).index_add(0, mask.nonzero()[:, 0], rows)
        return self.last(pooled / self.lengths(mask))


class PooledByMatrix(Ragged):
    """The same by a product from the left."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        owner = nn.functional.one_hot(mask.nonzero()[:, 0], len(x)).T.to(x)
        return self.last(owner @ self.first(x[mask]).tanh() / self.lengths(mask))


class InParts(Ragged):
    """Cut into parts of any lengths, which are stacked again."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows = self.first(x[mask]).tanh()
        parts = rows.split(mask.sum(1).tolist())
        return self.last(torch.stack([part.mean(0) for part in parts]))


class Sorted(Ragged):
    """Longest first, as for packing, and back."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        order = mask.sum(1).argsort(descending=True, stable=True)
        rows = (self.first(x[order]).tanh() * mask[order][..., None]).sum(1)
        return self.last(rows[order.argsort()] / self.lengths(mask))


class Packed(Ragged):
    """A recurrent network on packed sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(D, 4, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        rows, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=T)
        return self.last((rows * mask[..., None]).sum(1) / self.lengths(mask))


class Routed(Ragged):
    """Each position goes to the expert that its first number names."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(D, 4) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        flat, kind = x.flatten(0, 1), (x[..., 0].flatten() * 1.5).round().clamp(-1, 1) + 1
        rows = flat.new_zeros(len(flat), 4)
        for number, expert in enumerate(self.experts):
            chosen = (kind == number).nonzero().flatten()
            rows = rows.index_copy(0, chosen, expert(flat[chosen]).tanh())
        rows = rows.reshape(len(x), T, 4) * mask[..., None]
        return self.last(rows.sum(1) / self.lengths(mask))


class Normed(Ragged):
    """A norm and a lookup among the rows that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.table = nn.LayerNorm(4), nn.Embedding(5, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows = x[mask]
        tokens = (rows[:, 0].abs() * 3).long().clamp(0, 4)
        rows = self.norm(self.first(rows)) + self.table(tokens)
        pooled = rows.new_zeros(len(x), 4).index_add(0, mask.nonzero()[:, 0], rows.tanh())
        return self.last(pooled)


class Graph(Ragged):
    """Messages between the nodes of each graph, whose batch is one list of nodes."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        owner = mask.nonzero()[:, 0]
        near = (owner[:, None] == owner[None]).to(x)
        rows = near @ self.first(x[mask]).tanh()
        return self.last(rows.new_zeros(len(x), 4).index_add(0, owner, rows.tanh()))


MODELS = [Unpadded, PooledByMatrix, InParts, Sorted, Packed, Routed, Normed, Graph]
LENGTHS = [
    [2, 1, 3, 2, 3, 1, 2],
    [2, 1, 4, 2, 3, 3, 2],
    [1, 2, 1, 3, 1, 1, 4],
    [4, 4, 4, 1, 4, 4, 4],
    [1, 1, 1, 4, 4, 1, 1],
]


def batch(lengths: list[int], dtype: torch.dtype = DOUBLE) -> tuple[Tensor, Tensor, Tensor]:
    count = len(lengths)
    mask = torch.arange(T)[None] < torch.tensor(lengths)[:, None]
    return torch.randn(count, T, D, dtype=dtype), mask, torch.arange(count) % 2


def one_by_one(model: nn.Module, data: Any) -> Tensor:
    rows = []
    for i in range(len(data[0])):
        x, mask, y = (part[i : i + 1] for part in data)
        loss = nn.functional.cross_entropy(model(x, mask), y)
        found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([grad.flatten() for grad in found]))
    return torch.stack(rows)


@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("kind", MODELS)
def test_ragged_batches_are_differentiated_example_by_example(kind: type[Ragged], lengths: list[int]) -> None:
    model, data = kind().to(DOUBLE).eval(), batch(lengths)
    for order in (torch.arange(7), torch.randperm(7)):
        arranged = tuple(part[order] for part in data)
        expected = one_by_one(model, arranged)
        for batch_size in (None, 1, 2, 3):
            objective = uw.Objective(model, uw.losses.CrossEntropy(), arranged, batch_size=batch_size)
            found = torch.cat([block for _, block in objective.example_gradients()])
            close(found, expected, rtol=1e-8, atol=1e-10)
            vectors = torch.randn(2, objective.p, dtype=DOUBLE)
            close(objective.inner(vectors), vectors @ expected.T, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", [Unpadded, PooledByMatrix, InParts, Normed, Graph])
def test_the_fast_way_stays(kind: type[Ragged]) -> None:
    objective = uw.Objective(kind().to(DOUBLE).eval(), uw.losses.CrossEntropy(), batch(LENGTHS[0]))
    list(objective.example_gradients())
    assert not objective.engine.function.plan.slow  # type: ignore[attr-defined]


def test_queries_may_be_padded_where_training_data_were_not() -> None:
    model = Unpadded().to(DOUBLE).eval()
    objective = uw.Objective(model, uw.losses.CrossEntropy(), batch([T] * 9), l2=0.1)
    queries = batch([1, 3, 2, 4, 1])
    found = uw.Influence(objective, uw.inverse.Identity()).query_gradients(queries)
    close(found, one_by_one(model, queries), rtol=1e-8, atol=1e-10)


def test_rows_of_the_ggn_are_those_of_their_example() -> None:
    model, data = Unpadded().to(DOUBLE).eval(), batch(LENGTHS[1])
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data, l2=0.1)
    wanted = uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN(), damping=0.05)).self_influence().scores
    found = uw.Influence(objective, uw.inverse.Dual(damping=0.05, rows=None)).self_influence().scores
    close(found, wanted, rtol=1e-7, atol=1e-10)


def test_float32_tells_hundreds_of_examples_apart() -> None:
    torch.manual_seed(1)
    model, data = Unpadded().eval(), batch((torch.randint(1, T + 1, (300,))).tolist(), torch.float32)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data)
    found = torch.cat([block for _, block in objective.example_gradients()])
    assert not objective.engine.function.plan.slow  # type: ignore[attr-defined]
    close(found, one_by_one(model, data), rtol=1e-3, atol=1e-5)


def test_seeds_and_owners() -> None:
    like = torch.ones(1, dtype=DOUBLE)
    for count in (1, BASE, BASE + 1, BASE**2 + 3):
        rows, whose = seeds(count, like), torch.randperm(count)[: count // 2 + 1]
        assert len(rows) == 1 + (1 if count <= BASE else 2 if count <= BASE**2 else 3)
        plain = torch.randn(len(whose), 3, dtype=DOUBLE)
        found = owners(plain, [row[whose][:, None] * plain for row in rows], 0, count)
        assert found is not None
        assert torch.equal(found, whose)
    mixed, (coded, proof) = torch.randn(4, 3, dtype=DOUBLE), seeds(64, like)
    parts = torch.randn(2, 3, dtype=DOUBLE)
    for shared in (parts, torch.stack([parts[0], 3 * parts[0]])):  # a row of examples 0 and 32; then as parallels
        mixed[1] = shared.sum(0)
        others = [row[5] * mixed for row in (coded, proof)]
        for other, row in zip(others, (coded, proof), strict=True):
            other[1] = row[0] * shared[0] + row[32] * shared[1]
        assert owners(mixed, others, 0, 64) is None
    nobody = torch.zeros(4, 3, dtype=DOUBLE)
    found = owners(nobody, [nobody, nobody], 0, 4)
    assert found is not None
    assert found.tolist() == [-1] * 4


def test_rows_that_lie_as_planned_stay_so_and_others_are_filled_up() -> None:
    plan = Examples(0, 1)
    assert lying(plan, torch.tensor([0, 0, 1, 1]), torch.Size([4, 2]), 0, 2) is plan
    assert lying(Examples(0, 0), torch.tensor([0, 1, -1, 1]), torch.Size([4, 2]), 0, 2) == Examples(0, 0)
    found = lying(plan, torch.tensor([1, 0, 1, -1]), torch.Size([4, 2]), 0, 2)
    assert isinstance(found, Owned)
    parted = found.split(torch.arange(8.0).reshape(4, 2), 2)
    assert parted.tolist() == [[[2, 3], [0, 0]], [[0, 1], [4, 5]]]


def test_what_is_arranged_by_shapes_alone_costs_no_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no seeds are needed here")

    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    convolutional = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3)]
    models = {
        nn.Sequential(*convolutional): torch.randn(6, 1, 8, 8),
        nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8), nn.Flatten(), nn.Linear(40, 3)): torch.randn(
            6, 5, 8
        ),
        nn.Sequential(nn.Embedding(9, 8), layer, nn.Flatten(), nn.Linear(40, 3)): torch.randint(9, (6, 5)),
    }
    objectives = [
        uw.Objective(model.eval(), uw.losses.CrossEntropy(), (x, torch.arange(6) % 3)) for model, x in models.items()
    ]
    monkeypatch.setattr("upweight.gradients.factored.seeds", refuse)
    for objective in objectives:
        list(objective.example_gradients())
