"""What an optimiser divides gradients by is what its next step shows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import upweight as uw

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "adam": lambda p: optim.Adam(p, lr=1e-3),
    "amsgrad": lambda p: optim.Adam(p, lr=1e-3, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=1e-3, betas=(0.9, 0.95), eps=1e-6),
    "rmsprop": lambda p: optim.RMSprop(p, lr=1e-3),
    "sgd": lambda p: optim.SGD(p, lr=1e-3),
}


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return model, torch.randn(30, 4, dtype=torch.float64), torch.randint(3, (30,))


def trained(name: str, steps: int = 7) -> tuple[nn.Module, optim.Optimizer, Tensor, Tensor]:
    model, x, y = problem()
    optimizer = OPTIMIZERS[name](model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, optimizer, x, y


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_divides_by_it(name: str) -> None:
    model, optimizer, x, y = trained(name)
    if name != "sgd":
        for state in optimizer.state.values():  # a step on a gradient alone, without momentum
            state["step"] = state["step"] * 0 + 1e9 if isinstance(state["step"], Tensor) else 10**9
            if "exp_avg" in state:
                state["exp_avg"].zero_()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (0.0, group["betas"][1])
        group["weight_decay"] = 0.0
    optimizer.step()
    metric = uw.step_metric(optimizer, model)
    for each, value in model.named_parameters():
        moved = (before[each] - value.detach()) / optimizer.param_groups[0]["lr"]
        torch.testing.assert_close(moved, gradients[each] / metric[each], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_dict_says_the_same(name: str) -> None:
    model, optimizer, _, _ = trained(name)
    expected = uw.step_metric(optimizer, model)
    state = copy.deepcopy(optimizer.state_dict())
    for found in (uw.step_metric(state, model), uw.step_metric(state, copy.deepcopy(model))):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
    names = [each for each, _ in model.named_parameters()]
    groups = [{"params": [model[2].weight, model[2].bias]}, {"params": list(model[0].parameters())}]  # type: ignore[index, union-attr]
    other = OPTIMIZERS[name](groups)
    nn.functional.cross_entropy(model(torch.randn(5, 4).double()), torch.arange(5) % 3).backward()
    other.step()
    order = [names[2], names[3], names[0], names[1]]
    found = uw.step_metric(other.state_dict(), model, order)
    assert all(torch.equal(found[key], value) for key, value in uw.step_metric(other, model).items())
    if name != "sgd":
        with pytest.raises(uw.InputError, match="parameters="):
            uw.step_metric(other.state_dict(), model)


def test_what_has_no_state_is_refused() -> None:
    model, _, _ = problem()
    with pytest.raises(uw.InputError, match=r"no state of '0\.weight'"):
        uw.step_metric(optim.Adam(model.parameters()), model)
    with pytest.raises(uw.InputError, match="none of its parameters"):
        uw.step_metric(optim.SGD(copy.deepcopy(model).parameters(), lr=1), model)
    for wrong in (None, {}, {"state": {}}, 3):
        with pytest.raises(uw.InputError, match="optimizer"):
            uw.step_metric(wrong, model)  # type: ignore[arg-type]
    with pytest.raises(uw.InputError, match="Adagrad"):
        uw.step_metric(optim.Adagrad(model.parameters()), model)
    with pytest.raises(uw.InputError, match="4 parameters and the model 1"):
        uw.step_metric(optim.SGD(model.parameters(), lr=1).state_dict(), nn.Linear(2, 2, bias=False))


@pytest.mark.filterwarnings("ignore::upweight.NotStationaryWarning")
def test_scores_in_the_metric_are_scaled_inner_products() -> None:
    model, optimizer, x, y = trained("adamw")
    metric = uw.step_metric(optimizer, model)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.1)
    flat = objective.layout.flatten(metric)
    gradients = torch.cat([rows for _, rows in objective.example_gradients()])
    expected = gradients[:4] / flat @ gradients.T
    influence = uw.Influence(objective, uw.inverse.StepMetric(metric))
    found = influence.attribute((x[:4], y[:4]))
    torch.testing.assert_close(found.scores, expected / len(x))
    assert found.magnitude is not None
    assert not found.magnitude.trusted
    assert "optimiser" in str(found.report)
    torch.testing.assert_close(influence.self_influence().scores, (gradients**2 / flat).sum(1) / len(x))
    assert influence.plan().stages
    tracin = uw.TracIn(objective, [model], 0.5, metrics=[metric])
    torch.testing.assert_close(tracin.attribute((x[:4], y[:4])).scores, 0.5 * expected)
    torch.testing.assert_close(tracin.self_influence().scores, 0.5 * (gradients**2 / flat).sum(1))
    lengths = (gradients**2 / flat).sum(1).sqrt()
    cosines = expected / lengths[:4, None] / lengths
    torch.testing.assert_close(tracin.attribute((x[:4], y[:4]), normalize=True).scores, 0.5 * cosines)
    for wrong, word in (
        ({"0.weight": metric["0.weight"]}, "lacks the parameter"),
        ({**metric, "0.bias": torch.ones(2)}, "shape"),
        ({**metric, "0.bias": -metric["0.bias"]}, "not > 0"),
    ):
        with pytest.raises(uw.InputError, match=word):
            uw.Influence(objective, uw.inverse.StepMetric(wrong)).attribute((x[:4], y[:4]))
    with pytest.raises(uw.InputError, match="one for each of the 1 checkpoints"):
        uw.TracIn(objective, [model], 0.5, metrics=[metric, metric])
