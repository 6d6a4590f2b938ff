"""Models whose forward passes do something on the side: to buffers, tables, hooks, random states, themselves."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from problems import DOUBLE

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
