"""Whatever a model does in a forward pass, it and the global random states are afterwards as they were, to the bit."""

from __future__ import annotations

import random
import warnings
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, default_collate

import upweight as uw
from problems import DOUBLE, close
from side_effects import CLASSES, REFUSED, ZOO, N, draw, made
from upweight.errors import InputError
from upweight.kept import random_states_kept
from upweight.tasks import label_errors

pytestmark = pytest.mark.usefixtures("unchecked")


class Examples(Dataset):
    """Reading it draws random numbers, and uses none."""

    def __init__(self, n=N, seed=1):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 4, generator=generator, dtype=DOUBLE)
        self.y = torch.arange(n) % CLASSES

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        draw()
        return self.x[i], self.y[i]


class Ending(uw.losses.CrossEntropy):
    """Ends the pass that comes after ``left`` others."""

    left, how = None, None

    def of_outputs(self, outputs, batch):
        if self.left is not None:
            if self.left == 0:
                raise self.how("as told")
            object.__setattr__(self, "left", self.left - 1)
        return super().of_outputs(outputs, batch)

    def after(self, left, how):
        object.__setattr__(self, "left", left)
        object.__setattr__(self, "how", how)


def state(model):
    def flat(value):
        return value.detach().clone() if isinstance(value, torch.Tensor) else value

    return {
        "values": {key: flat(value) for key, value in (*model.named_parameters(), *model.named_buffers())},
        "grads": {key: flat(value.grad) for key, value in model.named_parameters()},
        "needs": {key: value.requires_grad for key, value in model.named_parameters()},
        "bound": [
            [(key, id(value) if not isinstance(value, dict) else [(k, id(v)) for k, v in value.items()])]
            for part in model.modules()
            for key, value in vars(part).items()
        ],
        "modes": [part.training for part in model.modules()],
        "random": (torch.get_rng_state(), random.getstate(), *np.random.get_state()[1:3]),  # noqa: NPY002
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_as_it_was(before, after):
    for key, value in before.items():
        assert same(value, after[key]), key


def train(objective):
    def trained(indices, seed):
        return objective.params + 0.01 * torch.rand(objective.p, dtype=DOUBLE)

    return trained


CALLS = {
    "attribute": lambda i: i.attribute(Examples(3, 2)),
    "attribute, corrected": lambda i: i.attribute(Examples(3, 2), leverage_corrected=True),
    "self_influence": lambda i: i.self_influence(),
    "verify": lambda i: i.verify(Examples(2, 2), 2, counterfactual=train(i.objective)),
    "label_errors": lambda i: label_errors(i),
}


def objective_of(model, loss, data, **options):
    return quiet(lambda: uw.Objective(model, loss, data, l2=0.1, collate=pairs, **options))


def pairs(examples):
    return tuple(default_collate(examples))


def quiet(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


@pytest.mark.parametrize("how", [None, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ZOO)
def test_a_model_and_random_states_are_as_they_were(name, how):
    model, loss, data = made(name), Ending(), Examples()
    before = state(model)
    for left in (None,) if how is None else (None, 0, 1, 3, 6):
        loss.after(left, how)
        if left == 0 and how is not None:
            with pytest.raises((InputError, how)):
                objective_of(model, loss, data)
        else:
            with suppress(InputError, RuntimeError, KeyboardInterrupt):
                objective_of(model, loss, data)
        assert_as_it_was(before, state(model))
    loss.after(None, None)
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            objective_of(model, loss, data)
        assert_as_it_was(before, state(model))
        return
    objective = objective_of(model, loss, data)
    theta = objective.params.clone()
    for call in CALLS.values():
        for left in (None,) if how is None else (0, 2):
            loss.after(left, how)
            influence = uw.Influence(objective, uw.inverse.Dual(damping=0.1))
            if left == 0:
                with pytest.raises((how, InputError)):
                    quiet(lambda call=call, influence=influence: call(influence))
            else:
                with nullcontext() if how is None else suppress(how, InputError):
                    quiet(lambda call=call, influence=influence: call(influence))
            assert_as_it_was(before, state(model))
            assert torch.equal(objective.params, theta)


@pytest.mark.parametrize("name", [name for name in ZOO if name not in REFUSED])
def test_gradients_are_those_of_plain_differentiation_of_a_copy(name):
    objective = objective_of(made(name), uw.losses.CrossEntropy(), Examples())
    found = quiet(lambda: torch.cat([rows for _, rows in objective.example_gradients()]))
    data, rows = Examples(), []
    for i in range(N):
        own = made(name)
        value = F.cross_entropy(own(data.x[i : i + 1]), data.y[i : i + 1])
        grads = torch.autograd.grad(value, [own.get_parameter(key) for key in objective.layout.names])
        rows.append(torch.cat([grad.flatten() for grad in grads]))
    close(found, torch.stack(rows), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in ZOO if "max norm" in name and name not in REFUSED])
def test_a_part_of_theta_leaves_tables_and_buffers_too(name):
    model = made(name)
    before = state(model)
    rule = uw.select.masked(
        uw.Objective(model, uw.losses.CrossEntropy(), Examples()).layout,
        {key: torch.rand(value.shape) < 0.5 for key, value in model.named_parameters() if value.requires_grad},
    )
    objective = objective_of(model, uw.losses.CrossEntropy(), Examples(), parameters=rule)
    quiet(lambda: uw.Influence(objective, uw.inverse.Dual(damping=0.1)).attribute(Examples(3, 2)))
    before.pop("random"), (after := state(model)).pop("random")
    assert_as_it_was(before, after)


def test_random_states_come_back_however_a_block_ends():
    before = state(nn.Identity())["random"]
    for how in (None, ValueError, KeyboardInterrupt):
        try:
            with random_states_kept():
                draw()
                if how:
                    raise how
        except (ValueError, KeyboardInterrupt):
            pass
        assert same(before, state(nn.Identity())["random"])
