"""Models that torch or their owner has wrapped: parametrised, compiled, scripted, frozen, adapted, looped."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from zoo.case import CLASSES, Case, D, N, classified


def rows() -> Tensor:
    return torch.randn(N, D)


def net(first: nn.Module) -> nn.Module:
    return nn.Sequential(first, nn.Tanh(), nn.Linear(5, CLASSES))


def over(model: nn.Module, **options: Any) -> Case:
    return classified(model, rows(), **options)


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).mT


class LowRank(nn.Module):
    """A frozen weight with a product of two small ones."""

    def __init__(self, outs: int, ins: int):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(outs, 2) / 2), nn.Parameter(torch.randn(2, ins) / 2)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + 0.5 * self.up @ self.down


def adapted() -> nn.Module:
    layer = nn.Linear(D, 5)
    parametrize.register_parametrization(layer, "weight", LowRank(5, D))
    layer.parametrizations.weight.original.requires_grad_(False)
    return net(layer)


def symmetric() -> nn.Module:
    layer = nn.Linear(D, D)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(D, CLASSES))


def old(normed: Callable[[nn.Module], nn.Module], layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return normed(layer)


def pruned() -> nn.Module:
    layer = nn.Linear(D, 5)
    prune.random_unstructured(layer, "weight", 0.4)
    return net(layer)


def frozen() -> nn.Module:
    model = nn.Sequential(
        nn.Linear(D, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, CLASSES)
    )
    for value in model[:2].parameters():
        value.requires_grad_(False)
    model[3].bias.requires_grad_(False)
    return model


def biases_only() -> nn.Module:
    model = nn.Sequential(nn.Linear(D, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, CLASSES))
    for name, value in model.named_parameters():
        value.requires_grad_("bias" in name)
    return model


class Shared(nn.Module):
    """One module under two names, and its weight in a third place, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(D, D)
        self.b, self.head = self.a, nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(self.b(self.a(x).tanh()).tanh(), self.a.weight.T))


class Hyper(nn.Module):
    """Weights of the layer come from another network, by example or for all."""

    def __init__(self, *, by_example: bool):
        super().__init__()
        self.maker, self.head, self.by_example = nn.Linear(3, D * 5), nn.Linear(5, CLASSES), by_example
        self.code = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        if not self.by_example:
            return self.head(F.linear(x, self.maker(self.code).view(5, D)).tanh())
        weight = self.maker(x[:, :3]).view(-1, 5, D)
        return self.head(torch.bmm(weight, x[:, :, None])[..., 0].tanh() + self.code.sum())


class Equilibrium(nn.Module):
    """A fixed point by iteration, until nothing moves."""

    def __init__(self) -> None:
        super().__init__()
        self.ins, self.again, self.head = nn.Linear(D, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        drive = self.ins(x)
        z = torch.zeros_like(drive)
        for _ in range(12):
            z = torch.tanh(0.3 * self.again(z) + drive)
        return self.head(z)


class Flowing(nn.Module):
    """An ordinary differential equation by Euler's steps, time as one more input; checkpointed or not."""

    def __init__(self, *, checkpointed: bool = False):
        super().__init__()
        self.slope, self.head = nn.Sequential(nn.Linear(D + 1, 5), nn.Tanh(), nn.Linear(5, D)), nn.Linear(D, CLASSES)
        self.checkpointed = checkpointed

    def step(self, x: Tensor, time: float) -> Tensor:
        return x + 0.25 * self.slope(torch.cat([x, torch.full_like(x[:, :1], time)], 1))

    def forward(self, x: Tensor) -> Tensor:
        for k in range(4):
            x = checkpoint(self.step, x, k / 4, use_reentrant=False) if self.checkpointed else self.step(x, k / 4)
        return self.head(x)


class Ensemble(nn.Module):
    """Several networks at once by vmap over their stacked weights."""

    def __init__(self) -> None:
        super().__init__()
        each = [nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, CLASSES)) for _ in range(3)]
        stacked, _ = stack_module_state(each)
        self.stacked = nn.ParameterDict({name.replace(".", "_"): value.detach() for name, value in stacked.items()})
        self.skeleton = (copy.deepcopy(each[0]).to("meta"),)

    def forward(self, x: Tensor) -> Tensor:
        named = {name.replace("_", "."): value for name, value in self.stacked.items()}
        return torch.vmap(lambda values: functional_call(self.skeleton[0], values, (x,)))(named).mean(0)


class Forces(nn.Module):
    """The output is the gradient of an energy in the input."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(D, 5), nn.Softplus(), nn.Linear(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return slope[:, :CLASSES]


class Straight(torch.autograd.Function):
    """Rounding whose gradient is the identity's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(D, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, Straight.apply(self.first.weight), self.first.bias).tanh()
        return self.head(hidden + (hidden.sign() - hidden).detach())


class Wrapper(nn.Module):
    """What parallel and logging wrappers do: the model as an attribute, a count, the last output kept."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.last: Any = None
        self.register_forward_hook(lambda part, given, out: 2 * out)

    def forward(self, *given: Any) -> Tensor:
        self.calls += 1
        self.last = self.module(*given)
        return self.last


class Backbone(nn.Module):
    """A body that is run without gradients, and a head on it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = (
            nn.Linear(D, 5).requires_grad_(False),
            nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, CLASSES)),
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.body(x).relu()
        return self.head(x)


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(D, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, CLASSES))


def lazy() -> nn.Module:
    model = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(CLASSES))
    model(rows())
    return model


def convolved(normed: Callable[[nn.Module], nn.Module], **options: Any) -> Case:
    model = nn.Sequential(normed(nn.Conv1d(1, 3, 2)), nn.Tanh(), nn.Flatten(), nn.Linear(9, CLASSES))
    return classified(model, torch.randn(N, 1, D), **options)


MODELS: dict[str, Callable[[], Case]] = {
    "weight norm": lambda: over(net(parametrizations.weight_norm(nn.Linear(D, 5))), differences=True),
    "weight norm, old": lambda: over(net(old(nn.utils.weight_norm, nn.Linear(D, 5))), differences=True),
    "weight norm of a convolution": lambda: convolved(parametrizations.weight_norm, differences=True),
    "spectral norm": lambda: over(net(parametrizations.spectral_norm(nn.Linear(D, 5)))),
    "spectral norm, old": lambda: over(net(old(nn.utils.spectral_norm, nn.Linear(D, 5)))),
    "orthogonal": lambda: over(net(parametrizations.orthogonal(nn.Linear(D, 5)))),
    "orthogonal by Householder": lambda: over(
        net(parametrizations.orthogonal(nn.Linear(D, 5), orthogonal_map="householder"))
    ),
    "symmetric": lambda: over(symmetric()),
    "low rank beside a frozen weight": lambda: over(adapted()),
    "pruned": lambda: over(pruned()),
    "frozen parts": lambda: over(frozen()),
    "biases alone": lambda: over(biases_only()),
    "compiled": lambda: over(torch.compile(plain(), backend="eager")),
    "compiled, with factored derivatives": lambda: over(torch.compile(plain(), backend="aot_eager"), differences=True),
    "scripted": lambda: over(torch.jit.script(plain())),
    "traced": lambda: over(torch.jit.trace(plain(), (rows(),), check_trace=False)),
    "parallel": lambda: over(nn.DataParallel(plain())),
    "wrapped with a count and a hook": lambda: over(Wrapper(plain())),
    "shared modules": lambda: over(Shared()),
    "weights made for each example": lambda: over(Hyper(by_example=True)),
    "weights made for all": lambda: over(Hyper(by_example=False)),
    "fixed point": lambda: over(Equilibrium()),
    "differential equation": lambda: over(Flowing()),
    "differential equation, checkpointed": lambda: over(Flowing(checkpointed=True)),
    "ensemble by vmap": lambda: over(Ensemble()),
    "forces of an energy": lambda: over(Forces()),
    "rounded weights": lambda: over(Quantised()),
    "a body without gradients": lambda: over(Backbone()),
    "lazy layers": lambda: over(lazy()),
}
