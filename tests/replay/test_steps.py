"""A replayed training is torch's own, and its derivative that of finite differences, for every optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

import upweight as uw
from replays import QUERIES, Torch, by_torch, declared, finite_differences, network, theta

SGD, ADAM, ADAMW = uw.replay.SGD, uw.replay.Adam, uw.replay.AdamW
STEPS = 9


@dataclass(frozen=True)
class Case:
    rule: Any
    torch: Torch
    options: dict[str, Any] = field(default_factory=dict)
    by_torch: dict[str, Any] = field(default_factory=dict)


def halving(step: int) -> float:
    return 0.5**step


CASES = {
    "SGD": Case(SGD(0.3), partial(optim.SGD, lr=0.3)),
    "momentum, decay": Case(
        SGD(0.2, momentum=0.8, weight_decay=0.01), partial(optim.SGD, lr=0.2, momentum=0.8, weight_decay=0.01)
    ),
    "dampening": Case(SGD(0.3, momentum=0.8, dampening=0.5), partial(optim.SGD, lr=0.3, momentum=0.8, dampening=0.5)),
    "nesterov": Case(SGD(0.2, momentum=0.8, nesterov=True), partial(optim.SGD, lr=0.2, momentum=0.8, nesterov=True)),
    "Adam": Case(ADAM(0.05, eps=1e-4, weight_decay=0.01), partial(optim.Adam, lr=0.05, eps=1e-4, weight_decay=0.01)),
    "Adam, betas": Case(
        ADAM(0.05, betas=(0.5, 0.9), eps=1e-4), partial(optim.Adam, lr=0.05, betas=(0.5, 0.9), eps=1e-4)
    ),
    "amsgrad": Case(ADAM(0.05, eps=1e-4, amsgrad=True), partial(optim.Adam, lr=0.05, eps=1e-4, amsgrad=True)),
    "AdamW": Case(ADAMW(0.05, eps=1e-4), partial(optim.AdamW, lr=0.05, eps=1e-4)),
    "clip": Case(SGD(0.3, momentum=0.8), partial(optim.SGD, lr=0.3, momentum=0.8), {"clip": 0.3}, {"clip": 0.3}),
    "clip, Adam": Case(ADAM(0.05, eps=1e-4), partial(optim.Adam, lr=0.05, eps=1e-4), {"clip": 0.3}, {"clip": 0.3}),
    "schedule": Case(
        SGD(0.5, momentum=0.8),
        partial(optim.SGD, lr=0.5, momentum=0.8),
        {"schedule": halving},
        {"schedule": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.5)},
    ),
    "one-cycle": Case(
        SGD(0.5, momentum=0.8),
        partial(optim.SGD, lr=0.5, momentum=0.8),
        {"schedule": "one-cycle"},
        {"schedule": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=STEPS)},
    ),
    "one-cycle, no momentum given": Case(
        SGD(0.5),
        partial(optim.SGD, lr=0.5),
        {"schedule": "one-cycle"},
        {"schedule": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=STEPS)},
    ),
    "one-cycle, AdamW": Case(
        ADAMW(0.1, eps=1e-4),
        partial(optim.AdamW, lr=0.1, eps=1e-4),
        {"schedule": "one-cycle"},
        {"schedule": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=STEPS)},
    ),
    "rates": Case(
        SGD(0.5),
        partial(optim.SGD, lr=0.5),
        {"schedule": [0.5 * 0.5**step for step in range(STEPS)]},
        {"schedule": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.5)},
    ),
    "drop_last": Case(SGD(0.3), partial(optim.SGD, lr=0.3), {"drop_last": True}, {"drop_last": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_trained_model_is_torch_s(name: str) -> None:
    case = CASES[name]
    expected = by_torch(case.torch, network(), **case.by_torch)
    found = declared(case.rule, **case.options).train()
    assert not found.training
    torch.testing.assert_close(theta(found), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_the_derivative_is_that_of_finite_differences(name: str) -> None:
    case, chosen = CASES[name], [0, 7, 19]
    replay = declared(case.rule, **case.options)
    found = replay.attribute(QUERIES, quantity="weight", smoothness=False).scores[:, chosen]
    expected = finite_differences(replay, chosen)
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())


def test_dropout_draws_the_same_numbers_forwards_and_in_reverse() -> None:
    model = network(nn.GELU, nn.Dropout(0.5))
    replay = declared(SGD(0.3, momentum=0.8), model)
    trained = replay._work.trained(1, None)
    expected = by_torch(
        partial(optim.SGD, lr=0.3, momentum=0.8), network(nn.GELU, nn.Dropout(0.5)), seeds=trained.run.seeds
    )
    torch.testing.assert_close(theta(replay.train()), expected, rtol=1e-12, atol=1e-13)
    without = theta(declared(SGD(0.3, momentum=0.8), model.eval()).train())
    assert float((without - expected).abs().max()) > 1e-3
    found = replay.attribute(QUERIES, quantity="weight", smoothness=False).scores[:, [0, 7]]
    differences = finite_differences(replay, [0, 7])
    assert float((found - differences).abs().max()) < 1e-6 * float(differences.abs().max())


def test_decay_by_name_leaves_the_others_alone() -> None:
    model = network()
    rule = SGD(0.2, weight_decay={"*weight": 0.1})
    groups = [
        {"params": [model[0].weight, model[2].weight], "weight_decay": 0.1},
        {"params": [model[0].bias, model[2].bias]},
    ]

    def grouped(_: list[nn.Parameter]) -> optim.Optimizer:
        return optim.SGD(groups, lr=0.2)

    found = theta(declared(rule).train())
    read = theta(declared(optim.SGD(groups, lr=0.2), model).train())  # settings of torch's optimiser, by its groups
    torch.testing.assert_close(found, by_torch(grouped, model), rtol=1e-12, atol=1e-13)
    assert torch.equal(found, read)


@pytest.mark.parametrize("name", ["SGD", "momentum, decay", "Adam", "AdamW", "amsgrad"])
def test_torch_s_optimisers_are_read(name: str) -> None:
    case, model = CASES[name], network()
    assert declared(case.torch(list(model.parameters())), model).declared.rule == case.rule


def test_an_entry_without_gradients_has_adam_s_own_slope() -> None:
    """An input that is 0 for all but one example of weight 0: the root of its squares has no slope of its own."""
    x, y = torch.zeros(4, 2, dtype=torch.float64), torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    x[:, 0], x[3, 1] = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64), 1e-3
    model = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.3, 0.2]]))
    data, only = (x, y), torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    replay = uw.Replay(
        model, uw.losses.SquaredError(), data, optimizer=ADAM(0.01, eps=1e-2), batches=[[0, 1, 2, 3]] * 3
    )
    trained = replay._work.trained(0, only)
    state = trained.run.begin()
    for step in range(3):
        state = trained.run.step(state, step)
    assert float(state[2][1]) == 0

    def second(weight: float) -> torch.Tensor:
        return theta(replay.train(torch.tensor([1.0, 1.0, 1.0, weight])))[1]

    slope = (second(1e-5) - second(0.0)) / 1e-5
    cotangents = (
        torch.tensor([[0.0, 1.0]], dtype=torch.float64),
        *(torch.zeros(1, 2, dtype=torch.float64) for _ in range(2)),
    )
    states, total = [trained.run.begin()], 0.0
    for step in range(3):
        states.append(trained.run.step(states[-1], step))
    for step in (2, 1, 0):
        by_weight = trained.run.pull_(states[step], step, [cotangents])
        total += float(by_weight[0, 3])
    assert abs(total / float(slope) - 1) < 1e-3
