"""Every derivative, of every kind of model, is that of torch.func on the plain function of θ."""

import pytest
import torch
from torch import nn

from gradients.functions import CASES, CE, WEIGHTS, N, Reference, classes, network, normal
from problems import DOUBLE, close
from upweight.gradients import AutogradFunction, FactoredFunction, LinearFunction, example_function
from upweight.parameters import select


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
