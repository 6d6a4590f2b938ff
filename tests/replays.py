"""Small trainings to replay, the same trainings by torch's own optimisers, and finite differences of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw

DOUBLE = torch.float64
N, FEATURES, CLASSES = 20, 3, 3
Torch = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def network(activation: type[nn.Module] = nn.GELU, *more: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(FEATURES, 4), activation(), *more, nn.Linear(4, CLASSES)).double()


def examples(count: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=generator, dtype=DOUBLE)
    return x, torch.randint(CLASSES, (count,), generator=generator)


QUERIES = examples(4, seed=1)


def declared(optimizer: Any = None, model: Any = None, **options: Any) -> uw.Replay:
    given = {"epochs": 3, "batch_size": 8, "seed": 1} | options
    rule = uw.replay.SGD(0.2, momentum=0.8) if optimizer is None else optimizer
    return uw.Replay(model or network(), uw.losses.CrossEntropy(), examples(), optimizer=rule, **given)


def by_torch(
    make: Torch,
    model: nn.Module,
    *,
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
    clip: float | None = None,
    seeds: tuple[int, ...] | None = None,
    drop_last: bool = False,
) -> Tensor:
    """θ after the training of `declared`, by a loop as people write it."""
    x, y = examples()
    optimizer = make(list(model.parameters()))
    scheduler = None if schedule is None else schedule(optimizer)
    generator, step = torch.Generator().manual_seed(1), 0
    for _ in range(3):
        for batch in torch.randperm(N, generator=generator).split(8):
            if len(batch) < 8 and drop_last:
                continue
            if seeds is not None:
                torch.manual_seed(seeds[step])
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            step += 1
    return theta(model)


def theta(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def query_losses(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(QUERIES[0]), QUERIES[1], reduction="none")


def finite_differences(replay: uw.Replay, chosen: list[int], at: float = 1.0, h: float = 1e-5) -> Tensor:
    """Central differences of the queries' losses by the weights of some examples, ``[queries, chosen]``."""
    columns = []
    for example in chosen:
        moved = []
        for sign in (1, -1):
            weights = torch.full((N,), at, dtype=DOUBLE)
            weights[example] += sign * h
            moved.append(query_losses(replay.train(weights)))
        columns.append((moved[0] - moved[1]) / (2 * h))
    return torch.stack(columns, 1)
