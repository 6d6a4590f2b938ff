"""Models of every kind with a batch and a loss, and all their derivatives by torch.func on the plain function of θ."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from problems import DOUBLE
from upweight import losses

N = 5


class Tied(nn.Module):
    """Embedding and read-out share their weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.out = nn.Linear(4, 6, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(torch.tanh(self.embed(tokens)))


class Reused(nn.Module):
    """One layer used three times."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, 2, bias=False)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.layer(x))
        return self.head(x)


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, left, right):
        return self.a(left) * self.b(right)


class Nested(nn.Module):
    """Takes a dict within a tuple."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, inputs, shift):
        return self.layer(inputs["x"]) ** 2 + shift


class Unused(nn.Module):
    """A parameter that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.idle, self.layer = nn.Linear(2, 2), nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x)


class ScaledOutputs(nn.Sequential):
    """A Sequential that ends in a linear layer and does more: its outputs aren't that layer's."""

    def forward(self, x):
        return 2 * super().forward(x)


@dataclass
class Case:
    model: nn.Module
    batch: Any
    loss: Any
    parameters: Any = None
    linear: bool = False


def normal(*shape):
    return torch.randn(*shape, dtype=DOUBLE)


def classes(*shape, count=2):
    return torch.randint(0, count, shape)


def ignoring(targets):
    targets[0, 1:], targets[2] = -100, -100
    return targets


def network(*layers):
    return nn.Sequential(*layers)


CE, BCE, SE = losses.CrossEntropy, losses.BinaryLogistic, losses.SquaredError
CASES = {
    "linear": lambda: Case(nn.Linear(3, 2), (normal(N, 3), classes(N)), CE(), linear=True),
    "linear, no bias": lambda: Case(nn.Linear(3, 2, bias=False), (normal(N, 3), normal(N, 2)), SE(), linear=True),
    "linear, bias held fixed": lambda: Case(nn.Linear(3, 2), (normal(N, 3), classes(N)), CE(), ["weight"], linear=True),
    "linear, bias only": lambda: Case(nn.Linear(3, 2), (normal(N, 3), classes(N)), CE(), ["bias"]),
    "one output": lambda: Case(nn.Linear(3, 1), (normal(N, 3), classes(N)), BCE(), linear=True),
    "one output, squared": lambda: Case(nn.Linear(3, 1), (normal(N, 3), normal(N)), SE(1.0), linear=True),
    "one against the rest": lambda: Case(nn.Linear(3, 4), (normal(N, 3), classes(N)), BCE(), linear=True),
    "smooth hinge": lambda: Case(nn.Linear(3, 1), (normal(N, 3), classes(N)), losses.SmoothHinge(0.3), linear=True),
    "squared hinge": lambda: Case(nn.Linear(3, 1), (normal(N, 3), classes(N)), losses.SquaredHinge(), linear=True),
    "hinge": lambda: Case(nn.Linear(3, 1), (normal(N, 3), classes(N)), losses.Hinge(), linear=True),
    "frozen prefix": lambda: Case(
        network(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)),
        (normal(N, 1, 4, 4), classes(N)),
        CE(),
        ["3.*"],
        linear=True,
    ),
    "frozen prefix, keyword batch": lambda: Case(
        nn.Linear(3, 2), {"input": normal(N, 3), "labels": classes(N)}, CE(), linear=True
    ),
    "not only its last layer": lambda: Case(
        ScaledOutputs(nn.Linear(3, 3), nn.Linear(3, 2)), (normal(N, 3), classes(N)), CE(), ["1.*"]
    ),
    "linear over positions": lambda: Case(nn.Linear(3, 2), (normal(N, 4, 3), ignoring(classes(N, 4))), CE()),
    "mlp": lambda: Case(network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (normal(N, 3), classes(N)), CE()),
    "mlp, no bias": lambda: Case(
        network(nn.Linear(3, 4, bias=False), nn.GELU(), nn.Linear(4, 1, bias=False)),
        (normal(N, 3), classes(N)),
        BCE(),
    ),
    "mlp, one against the rest": lambda: Case(
        network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)), (normal(N, 3), classes(N)), BCE()
    ),
    "mlp, middle only": lambda: Case(
        network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (normal(N, 3), classes(N)), CE(), ["0.weight"]
    ),
    "norms": lambda: Case(
        network(nn.Linear(3, 4), nn.LayerNorm(4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)),
        (normal(N, 3), classes(N)),
        CE(),
    ),
    "conv": lambda: Case(
        network(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
            nn.GroupNorm(2, 4),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        (normal(N, 2, 4, 4), classes(N)),
        CE(),
    ),
    "conv1d": lambda: Case(
        network(nn.Conv1d(2, 3, 2, dilation=2, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)),
        (normal(N, 2, 5), classes(N)),
        CE(),
    ),
    "embedding": lambda: Case(
        network(nn.Embedding(6, 3), nn.Tanh(), nn.Linear(3, 6)),
        (classes(N, 4, count=6), ignoring(classes(N, 4, count=6))),
        CE(),
    ),
    "tied weights": lambda: Case(Tied(), (classes(N, 4, count=6), ignoring(classes(N, 4, count=6))), CE()),
    "reused module": lambda: Case(Reused(), (normal(N, 3), classes(N)), CE()),
    "dict batch": lambda: Case(Keywords(), {"left": normal(N, 3), "right": normal(N, 2), "labels": classes(N)}, CE()),
    "nested batch": lambda: Case(Nested(), ({"x": normal(N, 3)}, normal(N, 2), classes(N)), CE()),
    "unused parameter": lambda: Case(Unused(), (normal(N, 3), classes(N)), CE()),
    "attention": lambda: Case(
        network(
            nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
            nn.Flatten(),
            nn.Linear(12, 2),
        ),
        (normal(N, 3, 4), classes(N)),
        CE(),
    ),
    "own function": lambda: Case(
        network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
        normal(N, 3),
        losses.as_loss(lambda model, batch: (model(batch) ** 4).sum(1)),
    ),
}


@dataclass
class Reference:
    """The same derivatives, from whole Jacobians and Hessians of functions of θ."""

    case: Case
    layout: Any
    params: Tensor

    def on_model(self, function, params):
        named = self.layout.unflatten(params)
        model = self.case.model

        class Call(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self):
                return function(self.model)

        return functional_call(Call(), {f"model.{name}": value for name, value in named.items()}, ())

    def values(self, params):
        return self.on_model(lambda model: self.case.loss(model, self.case.batch), params)

    def outputs(self, params):
        return self.on_model(lambda model: self.case.loss.outputs(model, self.case.batch), params).flatten(1)

    def gradients(self):
        return jacrev(self.values)(self.params)

    def hessian(self, weights):
        """By plain double differentiation: torch.func.hessian is wrong for layer and instance norms."""
        params = self.params.clone().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            (gradient,) = torch.autograd.grad(weights @ self.values(params), params, create_graph=True)
        rows = [
            torch.autograd.grad(entry, params, retain_graph=True, allow_unused=True)[0] if entry.requires_grad else None
            for entry in gradient
        ]
        return torch.stack([torch.zeros_like(params) if row is None else row for row in rows]).detach()

    def output_factors(self):
        shape = self.on_model(lambda m: self.case.loss.outputs(m, self.case.batch), self.params).shape

        def value(flat):
            return self.case.loss.of_outputs(flat.reshape(shape), self.case.batch)

        at = self.outputs(self.params)
        rows = torch.arange(len(at))
        slopes = jacrev(value)(at)[rows, rows]
        curvatures = hessian(value)(at)[rows, rows][rows, :, rows]
        return jacrev(self.outputs)(self.params), slopes, curvatures


WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0], dtype=DOUBLE)
