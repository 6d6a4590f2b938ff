"""Every derivative, of every kind of model, is that of torch.func on the plain function of θ."""

import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

import upweight as uw
from problems import DOUBLE, close
from upweight import losses
from upweight.errors import InputError, SlowPathWarning
from upweight.gradients import AutogradFunction, FactoredFunction, LinearFunction, example_function
from upweight.parameters import select

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


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    made = CASES[request.param]()
    made.model = made.model.to(DOUBLE).eval()
    return made


@pytest.fixture
def reference(case):
    layout = select(case.model, case.parameters)
    params = layout.flatten(dict(case.model.named_parameters())).detach().clone()
    return Reference(case, layout, params)


@pytest.fixture(params=["chosen", "autograd"])
def function(request, case, reference):
    if request.param == "autograd":
        return AutogradFunction(case.model, case.loss, reference.layout)
    return example_function(case.model, case.loss, reference.layout, reference.params, case.batch)


WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0], dtype=DOUBLE)


def test_the_linear_form_serves_where_outputs_are_linear_in_theta(case, reference):
    chosen = example_function(case.model, case.loss, reference.layout, reference.params, case.batch)
    assert isinstance(chosen, LinearFunction if case.linear else FactoredFunction)


def test_values_and_gradients_are_those_of_torch_func(case, reference, function):
    params, rows = reference.params, reference.gradients()
    close(function.values(params, case.batch), reference.values(params))
    close(function.each(params, case.batch).materialize(), rows)
    total, gradient = function.gradient(params, case.batch, WEIGHTS)
    close(total, WEIGHTS @ reference.values(params))
    close(gradient, WEIGHTS @ rows)
    vectors = normal(3, len(params))
    close(function.each(params, case.batch).inner(vectors), vectors @ rows.T)


def test_gradients_at_several_parameters_are_those_at_each(case, reference, function):
    several = torch.stack([reference.params, reference.params + 0.1, -reference.params])
    totals, gradients = function.gradients(several, case.batch, WEIGHTS)
    for params, total, gradient in zip(several, totals, gradients, strict=True):
        there = Reference(case, reference.layout, params)
        close(total, WEIGHTS @ there.values(params))
        close(gradient, WEIGHTS @ there.gradients())


def test_hessian_products_are_those_of_the_whole_hessian(case, reference, function):
    vectors = normal(3, len(reference.params))
    matrix = reference.hessian(WEIGHTS)
    close(function.hessian_product(reference.params, case.batch, WEIGHTS, vectors), vectors @ matrix)


def test_ggn_products_and_output_factors_are_those_of_whole_jacobians(case, reference, function):
    if not function.split:
        pytest.skip("no outputs to split at")
    jacobian, slope, curvature = reference.output_factors()
    got = function.output_factors(reference.params, case.batch)
    for actual, expected in zip(got, (jacobian, slope, curvature), strict=True):
        close(actual, expected)
    close(torch.einsum("ncp,nc->np", jacobian, slope), reference.gradients())
    matrix = torch.einsum("n,ncp,ncd,ndq->pq", WEIGHTS, jacobian, curvature, jacobian)
    vectors = normal(3, len(reference.params))
    close(function.ggn_product(reference.params, case.batch, WEIGHTS, vectors), vectors @ matrix)


@pytest.mark.parametrize("padding", [0, 4])
def test_the_padding_of_an_embedding_is_constant_in_every_derivative(padding):
    torch.manual_seed(0)
    model = network(nn.Embedding(6, 3, padding_idx=padding), nn.Tanh(), nn.Linear(3, 6)).to(DOUBLE)
    nn.init.normal_(model[0].weight)
    batch, layout = (classes(N, 4, count=6), classes(N, 4, count=6)), select(model, None)
    assert (batch[0] == padding).any()
    params = layout.flatten(dict(model.named_parameters())).detach()
    function = AutogradFunction(model, CE(), layout)
    identity, step = torch.eye(len(params), dtype=DOUBLE), 1e-5
    constant = torch.zeros(len(params), dtype=torch.bool)
    constant[3 * padding : 3 * padding + 3] = True
    rows = function.each(params, batch).materialize()
    assert not rows[:, constant].any()
    close(function.each(params, batch).inner(identity).T, rows)
    matrix = function.hessian_product(params, batch, WEIGHTS, identity)
    close(matrix, matrix.T)
    assert not matrix[constant].any()
    for row in (~constant).nonzero().flatten():
        ahead, behind = (function.gradient(params + sign * step * identity[row], batch, WEIGHTS)[1] for sign in (1, -1))
        close(matrix[row], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)
    assert not function.ggn_product(params, batch, WEIGHTS, identity)[constant].any()


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_more_vectors_than_are_differentiated_at_once_change_nothing(name, monkeypatch):
    made = CASES[name]()
    made.model = made.model.to(DOUBLE).eval()
    layout = select(made.model, None)
    params = layout.flatten(dict(made.model.named_parameters())).detach()
    function = example_function(made.model, made.loss, layout, params, made.batch)
    vectors = normal(7, len(params))

    def products():
        return [
            function.each(params, made.batch).inner(vectors),
            function.hessian_product(params, made.batch, WEIGHTS, vectors),
            function.ggn_product(params, made.batch, WEIGHTS, vectors),
        ]

    whole = products()
    monkeypatch.setattr("upweight.gradients.autograd.VECTORS_AT_ONCE", 2)
    monkeypatch.setattr("upweight.gradients.linear.BLOCK_ELEMENTS", 1)
    for chunked, expected in zip(products(), whole, strict=True):
        close(chunked, expected)


def ask_item(model, batch):
    outputs = model(batch[0])
    scale = 1.0 if outputs.abs().sum().item() > 0 else 0.0
    return scale * F.cross_entropy(outputs, batch[1], reduction="none")


def branch(model, batch):
    outputs = model(batch[0])
    if (outputs > 1e6).any():
        outputs = outputs / 2
    return F.cross_entropy(outputs, batch[1], reduction="none")


@pytest.mark.parametrize("loss", [ask_item, branch])
def test_what_cannot_be_vectorised_is_looped_over_with_a_warning(loss):
    model = network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(DOUBLE)
    batch, layout = (normal(N, 3), classes(N)), select(model, None)
    params = layout.flatten(dict(model.named_parameters())).detach()
    expected = AutogradFunction(model, CE(), layout).each(params, batch).materialize()
    function = AutogradFunction(model, losses.as_loss(loss), layout)
    with pytest.warns(SlowPathWarning, match=f"one example at a time, {N} passes per batch"):
        first = function.each(params, batch).materialize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        again = function.each(params, batch).materialize()
    close(first, expected)
    close(again, expected)
    assert not first.requires_grad
    close(function.each(params, batch).inner(expected), expected @ expected.T)


def test_the_ggn_of_a_plain_function_is_refused():
    model = nn.Linear(3, 2).to(DOUBLE)
    function = AutogradFunction(model, losses.as_loss(ask_item), select(model, None))
    params = torch.zeros(8, dtype=DOUBLE)
    batch = (normal(N, 3), classes(N))
    for call in (
        lambda: function.ggn_product(params, batch, WEIGHTS, params[None]),
        lambda: function.output_factors(params, batch),
    ):
        with pytest.raises(InputError, match=r"GGN and leverages need a loss with the split.*use the Hessian"):
            call()


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_a_temperature_reaches_a_bias_that_is_still_zero(bias):
    """At zero it shows nothing of being divided: what is linear is asked at another θ too."""
    model = nn.Linear(3, 3).to(DOUBLE)
    nn.init.constant_(model.bias, bias)
    x, y = torch.randn(8, 3, dtype=DOUBLE), torch.arange(8) % 3
    objective = uw.Objective(model, uw.losses.CrossEntropy(temperature=2.0), (x, y))
    found = torch.cat([block for _, block in objective.example_gradients()])
    for i in range(8):
        loss = nn.functional.cross_entropy(model(x[i : i + 1]) / 2, y[i : i + 1])
        expected = torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, list(model.parameters()))])
        close(found[i], expected, rtol=1e-9, atol=1e-12)
