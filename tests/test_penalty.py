"""What an optimiser's weight decay amounts to as a penalty, against where training with it ends."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import upweight as uw
from problems import close
from upweight.errors import InputError

optim = torch.optim


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(120, 4, generator=generator)
    noise = torch.randn(120, 3, generator=generator)
    return x, (x[:, :3] + noise).argmax(1)


def trained(make: Any, steps: int = 2500) -> tuple[nn.Module, Any]:
    """By batches of 20, at a rate that falls to 0."""
    model, (x, y) = network(), data()
    optimizer = make(model.parameters())
    schedule = optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        rows = torch.randperm(120, generator=generator)[:20]
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return model, optimizer


def gradient_norm(model: nn.Module, l2: Any) -> float:
    return uw.Objective(model, uw.losses.CrossEntropy(), data(), l2=l2).stationarity().gradient_norm


COUPLED = {
    "SGD": lambda p: optim.SGD(p, lr=0.2, momentum=0.9, weight_decay=0.02),
    "Adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.02),
}


@pytest.mark.parametrize("name", COUPLED)
def test_decay_in_the_gradient_is_the_penalty(name: str) -> None:
    model, optimizer = trained(COUPLED[name])
    l2 = uw.l2_of(optimizer, model)
    assert l2 == dict.fromkeys(dict(model.named_parameters()), 0.02)
    assert gradient_norm(model, l2) < 0.6 * gradient_norm(model, 0.0)


def test_an_optimiser_from_before_decay_could_be_decoupled_has_it_in_the_gradient() -> None:
    """Groups loaded from an earlier torch's state_dict don't say whether it is."""
    model, optimizer = trained(COUPLED["Adam"], steps=2)
    for group in optimizer.param_groups:
        del group["decoupled_weight_decay"]
    assert set(uw.l2_of(optimizer, model).values()) == {0.02}


DECOUPLED = {
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.3),
    "AdamW, amsgrad": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.3, amsgrad=True),
    "Adam, decoupled": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.3, decoupled_weight_decay=True),
    "NAdam, decoupled": lambda p: optim.NAdam(p, lr=0.01, weight_decay=0.3, decoupled_weight_decay=True),
}


@pytest.mark.parametrize("name", DECOUPLED)
def test_decoupled_decay_ends_nearer_to_the_optimum_of_its_penalty(name: str) -> None:
    model, optimizer = trained(DECOUPLED[name])
    l2 = uw.l2_of(optimizer, model)
    assert gradient_norm(model, l2) < 0.6 * gradient_norm(model, 0.0)
    assert gradient_norm(model, 0.3) > 5 * gradient_norm(model, 0.0)  # the decay itself is no penalty
    group = optimizer.param_groups[0]
    for key, value in model.named_parameters():
        state = optimizer.state[value]
        squares = state["max_exp_avg_sq" if "amsgrad" in name else "exp_avg_sq"] / (1 - 0.999 ** float(state["step"]))
        pull = 0.3 * (squares.sqrt() + group["eps"]) * value.detach()
        close(torch.tensor(l2[key]), (pull * value.detach()).sum() / value.detach().square().sum(), rtol=1e-4)


def test_groups_without_decay_and_parameters_of_nobody_have_no_penalty() -> None:
    model = network()
    groups = [{"params": [model[0].weight], "weight_decay": 0.1}, {"params": [model[0].bias], "weight_decay": 0.0}]
    l2 = uw.l2_of(optim.SGD(groups, lr=0.1), model)
    assert l2 == {"0.weight": 0.1, "0.bias": 0.0, "2.weight": 0.0, "2.bias": 0.0}
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data(), l2=l2)
    assert sorted(objective.l2.unique().tolist()) == pytest.approx([0.0, 0.1])
    frozen = uw.Objective(model, uw.losses.CrossEntropy(), data(), l2=l2, parameters=["2.*"])
    assert not frozen.l2.any()
    assert uw.l2_of(optim.LBFGS(model.parameters()), model) == dict.fromkeys(l2, 0.0)


class Unknown(optim.Optimizer):
    def __init__(self, params: Any):
        super().__init__(params, {"weight_decay": 0.1})


MODEL = network()
BAD = {
    "no optimiser": ("adamw", MODEL, r"optimizer: give the torch\.optim\.Optimizer.*got 'adamw'"),
    "no model": (optim.SGD(MODEL.parameters()), "net", r"model: give the torch\.nn\.Module.*got str"),
    "a copy": (optim.SGD(MODEL.parameters()), network(), "none of its parameters belongs to the model"),
    "of ascent": (optim.SGD(MODEL.parameters(), maximize=True), MODEL, "it maximises"),
    "before training": (optim.AdamW(MODEL.parameters()), MODEL, r"no state of '0\.weight'.*give it after training"),
    "another": (
        Unknown(MODEL.parameters()),
        MODEL,
        r"weight decay 0\.1 of Unknown amounts to isn't known.*yourself",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_says_nothing_of_a_penalty_is_refused(name: str) -> None:
    optimizer, model, said = BAD[name]
    with pytest.raises(InputError, match=said):
        uw.l2_of(optimizer, model)


@pytest.mark.usefixtures("unchecked")
def test_a_word_for_l2_is_refused_with_the_way_to_it() -> None:
    with pytest.raises(InputError, match=r"l2: got 'auto'; .*uw\.l2_of\(optimizer, model\)"):
        uw.Objective(MODEL, uw.losses.CrossEntropy(), data(), l2="auto")
