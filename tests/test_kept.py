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
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset, default_collate

import upweight as uw
from problems import DOUBLE, close
from upweight.errors import InputError
from upweight.kept import random_states_kept
from upweight.tasks import label_errors

pytestmark = pytest.mark.usefixtures("unchecked")
N, CLASSES = 10, 3


def draw():
    torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002


class Own(nn.Module):
    """A layer whose forward pass does something on the side."""

    def __init__(self, does):
        super().__init__()
        self.layer, self.does = nn.Linear(4, 4), does
        self.register_buffer("average", torch.zeros(4))
        self.register_buffer("steps", torch.tensor(0), persistent=False)
        self.cache, self.calls, self.last = {}, 0, None

    def forward(self, x):
        out = self.layer(x)
        self.does(self, out)
        return torch.tanh(out)


def averages(self, out):
    self.average.mul_(0.9).add_(0.1 * out.detach().mean(0))


def counts(self, out):
    self.steps += 1
    self.calls += 1


def rebinds(self, out):
    self.average = self.average + out.detach().mean(0)


def remembers(self, out):
    self.last = out
    self.cache[len(out)] = out


def registers(self, out):
    self.register_buffer(f"seen{len(out)}", out.detach())
    self.register_forward_hook(lambda *_: None)


def switches(self, out):
    self.layer.training = not self.layer.training


def draws(self, out):
    draw()


def adds_noise(self, out):
    out.data.add_(torch.randn_like(out))


def masks(self, out):
    self.layer.weight.data *= 0.5


class Limited(nn.Module):
    def forward(self, x):
        return F.embedding(self.index(x), self.weight, max_norm=0.5)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))

    def index(self, x):
        return (x[:, 0].abs() * 3).long().clamp_max(5)


class Looked(nn.Module):
    def __init__(self, table, bag=False):
        super().__init__()
        self.table, self.bag = table, bag

    def forward(self, x):
        index = (x.abs() * 3).long().clamp_max(5)
        return self.table(index) if self.bag else self.table(index).mean(1)


class Sequences(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        out = self.body(x.unfold(1, 2, 1).flatten(1)[:, :4].reshape(len(x), 1, 4).expand(-1, 3, -1))
        return (out[0] if isinstance(out, tuple) else out).mean(1)


class Images(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(x.reshape(len(x), 1, 2, 2)).flatten(1)[:, :4]


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return checkpoint(self.layer, x, use_reentrant=False).tanh()


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.first(x).tanh())


def linear():
    return nn.Linear(4, 4)


def norms():
    body = nn.BatchNorm1d(4)
    body.running_mean.fill_(0.3)
    return body.eval()


def dropped():
    return nn.Dropout(0.5).eval()


def conv(layer=None):
    return Images(layer or nn.Conv2d(1, 4, 2))


def pruned():
    body = linear()
    prune.random_unstructured(body, "weight", 0.3)
    return body


def hooked():
    body = linear()
    body.register_forward_hook(lambda module, args, out: out * 1.5)
    body.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return body


def attention():
    return Sequences(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).eval())


ZOO = {
    "linear": linear,
    "batch-norm": norms,
    "dropout": dropped,
    "convolution": conv,
    "layer norm": lambda: nn.LayerNorm(4),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "instance norm, training": lambda: Images(nn.InstanceNorm2d(1, affine=True, track_running_stats=True)),
    "embedding": lambda: Looked(nn.Embedding(6, 4, padding_idx=1)),
    "embedding, max norm": lambda: Looked(nn.Embedding(6, 4, max_norm=0.5)),
    "embedding, max norm and padding": lambda: Looked(nn.Embedding(6, 4, max_norm=0.5, padding_idx=0)),
    "embedding, max norm 1": lambda: Looked(nn.Embedding(6, 4, max_norm=0.5, norm_type=1)),
    "bag, max norm": lambda: Looked(nn.EmbeddingBag(6, 4, max_norm=0.5), bag=True),
    "functional max norm": Limited,
    "spectral norm": lambda: torch.nn.utils.spectral_norm(linear()),
    "spectral norm, eval": lambda: torch.nn.utils.spectral_norm(linear()).eval(),
    "spectral parametrization": lambda: parametrizations.spectral_norm(linear()),
    "spectral parametrization, eval": lambda: parametrizations.spectral_norm(linear()).eval(),
    "spectral convolution": lambda: conv(parametrizations.spectral_norm(nn.Conv2d(1, 4, 2))),
    "weight norm": lambda: torch.nn.utils.weight_norm(linear()),
    "weight parametrization": lambda: parametrizations.weight_norm(linear()),
    "orthogonal": lambda: parametrizations.orthogonal(linear()),
    "pruned": pruned,
    "hooks": hooked,
    "LSTM": lambda: Sequences(nn.LSTM(4, 4, batch_first=True)),
    "GRU": lambda: Sequences(nn.GRU(4, 4, batch_first=True)),
    "attention": attention,
    "checkpoint": Checkpointed,
    "one module twice": Twice,
    **{f.__name__: (lambda f=f: Own(f)) for f in (averages, counts, rebinds, remembers, registers, switches)},
    **{f.__name__: (lambda f=f: Own(f)) for f in (draws, adds_noise, masks)},
}
REFUSED = {
    "masks": "model: a forward pass writes into its parameter '0.layer.weight'",
    "adds_noise": "loss: it is random",
}


def made(name):
    torch.manual_seed(0)
    model = nn.Sequential(ZOO[name](), nn.Linear(4, CLASSES)).to(DOUBLE)
    model[1].weight.grad = torch.ones_like(model[1].weight)
    model[1].bias.requires_grad_(False)
    return model


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
