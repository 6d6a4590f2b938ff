"""Whose each row is: proved on the graph in every batch, and never where rows are arranged by their values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight.gradients.rules import Examples
from upweight.gradients.traced import traced

N, T, D = 8, 3, 4
pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")


def one_hot(mask: Tensor) -> Tensor:
    """Of each token that is there, whose it is: ``[examples, tokens]``."""
    owners = torch.arange(len(mask))[:, None].expand(mask.shape)[mask]
    return (owners[None] == torch.arange(len(mask))[:, None]).to(DOUBLE)


def mean_of(h: Tensor, mask: Tensor) -> Tensor:
    return torch.einsum("bn,nd->bd", one_hot(mask), h)


def by_where(h: Tensor, mask: Tensor) -> Tensor:
    return torch.where(one_hot(mask)[:, :, None] > 0, h[None], 0.0).sum(1)


def by_filling(h: Tensor, mask: Tensor) -> Tensor:
    return h[None].masked_fill(one_hot(mask)[:, :, None] == 0, -100.0).amax(1)


def by_weights(h: Tensor, mask: Tensor) -> Tensor:
    logits = one_hot(mask).log()
    return logits.softmax(1) @ h


def by_attention(h: Tensor, mask: Tensor) -> Tensor:
    query, keys = torch.zeros(1, len(mask), D, dtype=DOUBLE), h[None]
    return F.scaled_dot_product_attention(query, keys, keys, attn_mask=one_hot(mask)[None] > 0)[0]


def by_lookup(h: Tensor, mask: Tensor) -> Tensor:
    first = mask.sum(1).cumsum(0) - mask.sum(1)
    return F.embedding(first, h)


def by_gathering(h: Tensor, mask: Tensor) -> Tensor:
    first = mask.sum(1).cumsum(0) - mask.sum(1)
    return h.T.gather(1, first[None].expand(D, -1)).T


POOLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "einsum": mean_of,
    "product and sum": lambda h, mask: (one_hot(mask)[:, :, None] * h[None]).sum(1),
    "where": by_where,
    "masked fill": by_filling,
    "weights": by_weights,
    "attention": by_attention,
    "lookup": by_lookup,
    "gather": by_gathering,
}


class Pooled(nn.Module):
    """Tokens that are there go through a layer, and each example's are pooled again."""

    def __init__(self, pool: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.head, self.pool = nn.Linear(D, D), nn.Linear(D, 3), pool

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.pool(torch.tanh(self.layer(x[mask])), mask))


def one_by_one(model: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
    rows = []
    for i in range(len(y)):
        loss = F.cross_entropy(model(*(part[i : i + 1] for part in inputs)), y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows)


def found(objective: uw.Objective) -> Tensor:
    return torch.cat([block for _, block in objective.example_gradients()])


@pytest.mark.parametrize("batch_size", [None, 1, 3, 4])
@pytest.mark.parametrize("name", POOLS)
def test_tokens_pooled_by_values_are_their_owners(name: str, batch_size: int | None) -> None:
    """As many tokens an example where it is looked at first; later as many in all, but not each."""
    torch.manual_seed(3)
    mask = torch.ones(N, T, dtype=torch.bool)
    mask[:, 2] = False
    mask[1], mask[2] = torch.tensor([True, True, True]), torch.tensor([True, False, False])
    mask[5], mask[6] = torch.tensor([True, False, False]), torch.tensor([True, True, True])
    x, y, model = torch.randn(N, T, D, dtype=DOUBLE), torch.arange(N) % 3, Pooled(POOLS[name]).to(DOUBLE)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, mask, y), batch_size=batch_size)
    close(found(objective), one_by_one(model, (x, mask), y))


class Towers(nn.Module):
    """One row for each user, however many examples are theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.head = nn.Linear(D, D), nn.Linear(D, 1)
        self.table = torch.randn(5, D, dtype=DOUBLE)

    def forward(self, user: Tensor, x: Tensor) -> Tensor:
        unique, inverse = user.unique(return_inverse=True)
        return self.head(torch.tanh(self.tower(self.table[unique]))[inverse] * x)


@pytest.mark.parametrize("seed", range(12))
def test_rows_that_examples_share_are_nobodys(seed: int) -> None:
    torch.manual_seed(seed)
    user = torch.tensor([0, 3, 0, 1, 1, 2, 3, 4])
    user = torch.cat([user[:1], user[1:][torch.randperm(7)]])
    x, y, model = torch.randn(N, D, dtype=DOUBLE), torch.randn(N, 1, dtype=DOUBLE), Towers().to(DOUBLE)
    objective = uw.Objective(model, uw.losses.SquaredError(), (user, x, y))
    rows = []
    for i in range(N):
        loss = 0.5 * ((model(user[i : i + 1], x[i : i + 1]) - y[i : i + 1]) ** 2).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    close(found(objective), torch.stack(rows))


class Turned(nn.Module):
    """Turns larger batches around on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(D, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) <= 3:
            return self.head(torch.tanh(self.layer(x)))
        return self.head(torch.tanh(self.layer(x.flip(0)))).flip(0)


@pytest.mark.parametrize("batch_size", [3, 4, None])
def test_an_order_that_depends_on_the_size_of_a_batch(batch_size: int | None) -> None:
    x, y, model = torch.randn(N, D, dtype=DOUBLE), torch.arange(N) % 3, Turned().to(DOUBLE)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y), batch_size=batch_size)
    close(found(objective), one_by_one(model, (x,), y))


KEPT: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor], Examples | None]] = {
    "rows": ((4, 5), lambda h: h.tanh().sum(1), Examples(0, 1)),
    "reshaped": ((12, 5), lambda h: h.reshape(4, 3, 5).mean((1, 2)), Examples(0, 1)),
    "sequence first": ((3, 4, 5), lambda h: h.transpose(0, 1).softmax(-1).sum((1, 2)), Examples(1, 1)),
    "sequence first, flat": ((12, 5), lambda h: h.reshape(3, 4, 5).permute(1, 0, 2).sum((1, 2)), Examples(0, 0)),
    "windows": ((24, 5), lambda h: h.reshape(4, 2, 3, 5).amax((1, 2, 3)), Examples(0, 1)),
    "last": ((5, 4), lambda h: (h * 2).sum(0), Examples(1, 1)),
    "on the left of a product": ((4, 5), lambda h: (h @ torch.randn(5, 2)).sum(1), Examples(0, 1)),
    "on its right": ((4, 5), lambda h: (torch.randn(4, 4) @ h).sum(1), None),
    "in a batch of products": ((4, 2, 5), lambda h: (h @ h.mT).sum((1, 2)), Examples(0, 1)),
    "added to everybody": ((4, 5), lambda h: (h[None] + torch.randn(4, 1, 1)).sum((1, 2)), None),
    "softmax over the examples": ((4, 5), lambda h: h.softmax(0).sum(1), None),
    "in order, one of each": (
        (4, 3, 5),
        lambda h: h[torch.arange(4), torch.tensor([2, 0, 1, 1])].sum(1),
        Examples(0, 1),
    ),
    "of several each": ((4, 5), lambda h: h[torch.arange(4), torch.randint(0, 5, (4, 4))].sum(1), None),
    "masked": ((4, 5), lambda h: h[torch.tensor([True] * 4)].sum(1), None),
    "parts of others": ((4, 3, 5), lambda h: h[:, [2, 0]].sum((1, 2)), Examples(0, 1)),
    "by two others apart": ((3, 4, 5), lambda h: h[[0, 2, 1, 1], :, [2, 0, 1, 4]].sum(1), None),
    "in another order": ((4, 5), lambda h: h[torch.tensor([1, 0, 2, 3])].sum(1), None),
    "turned": ((4, 5), lambda h: h.flip(0).sum(1), None),
    "turned otherwise": ((4, 5), lambda h: h.flip(1).sum(1), Examples(0, 1)),
    "joined": ((4, 5), lambda h: torch.cat([h, h], 1).sum(1), Examples(0, 1)),
    "joined by examples": ((2, 5), lambda h: torch.cat([h, h], 0).sum(1), None),
    "image": ((4, 2, 6, 6), lambda h: F.max_pool2d(h, 2).flatten(1).logsumexp(1), Examples(0, 1)),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_proved(name: str) -> None:
    shape, values, expected = KEPT[name]
    h = torch.randn(shape, requires_grad=True) * 2
    assert h.grad_fn is not None
    assert traced(values(h), 4).get((h.grad_fn, 0)) == expected


def other(h: Tensor, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=h.dtype)


def last_two(h: Tensor) -> Tensor:
    return h if h.dim() > 1 else h[:, None]


STEPS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda h: h.tanh(),
    lambda h: h * other(h, *h.shape),
    lambda h: h + h.flip(-1),
    lambda h: h[None] * other(h, 4, *[1] * h.dim()),
    lambda h: h.transpose(0, -1),
    lambda h: h.movedim(0, -1),
    lambda h: h.softmax(-1),
    lambda h: h.softmax(0),
    lambda h: h.cumsum(0),
    lambda h: h.reshape(4, -1) if h.numel() % 4 == 0 else h,
    lambda h: h.reshape(-1, 2) if h.numel() % 2 == 0 else h,
    lambda h: h.flatten(),
    lambda h: h.unsqueeze(1).expand(-1, 2, *[-1] * (h.dim() - 1)),
    lambda h: torch.cat([h, h.sin()], -1),
    lambda h: torch.cat([h, h.sin()], 0),
    lambda h: torch.stack([h, h.cos()], 1),
    lambda h: torch.stack(h.unbind(0), -1),
    lambda h: h.chunk(2, -1)[0],
    lambda h: h.roll(1, 0),
    lambda h: last_two(h) @ other(h, last_two(h).shape[-1], 4),
    lambda h: other(h, 4, last_two(h).shape[-2]) @ last_two(h),
    lambda h: last_two(h) @ last_two(h).mT,
    lambda h: h.mean(-1) if h.dim() > 1 else h,
    lambda h: h.amax(0, keepdim=True) if h.dim() > 1 else h,
    lambda h: h[torch.arange(h.shape[0])],
    lambda h: h[torch.arange(h.shape[0]).flip(0)],
    lambda h: h[:, torch.randint(0, h.shape[1], (3,))] if h.dim() > 1 else h,
    lambda h: h.gather(0, torch.randint(0, h.shape[0], h.shape)),
    lambda h: h.gather(-1, torch.randint(0, h.shape[-1], h.shape)),
    lambda h: h.sort(0).values,
    lambda h: F.layer_norm(h, h.shape[-1:]),
    lambda h: F.pad(h, (1, 0)),
    lambda h: F.scaled_dot_product_attention(*[last_two(h)[None]] * 3)[0],
    lambda h: torch.where(torch.rand(h.shape) > 0.5, h, -h),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), steps=st.lists(st.sampled_from(range(len(STEPS))), max_size=6))
def test_what_is_proved_is_so(seed: int, steps: list[int]) -> None:
    """Whatever is computed: another example's value has no gradient at a row that is proved to be one's."""
    torch.manual_seed(seed)
    h = torch.randn([(4, 3), (3, 4), (8, 2), (2, 4, 3), (4, 4)][seed % 5], dtype=DOUBLE, requires_grad=True) * 2
    z = h
    for step in steps:
        z = STEPS[step](z)
        if z.numel() > 4000:
            return
    if z.numel() % 4:
        return
    values = (z if z.dim() and z.shape[0] == 4 else z.reshape(4, -1)).reshape(4, -1).sin().sum(1)
    place = traced(values, 4).get((h.grad_fn, 0))
    if place is None:
        return
    for example in range(4):
        (gradient,) = torch.autograd.grad(values[example], h, retain_graph=True)
        parted = place.split(gradient, 4)
        assert not parted[torch.arange(4) != example].any(), (place, [steps])
