"""Which function serves a model; padding, and vectors by the chunk."""

import pytest
import torch
from torch import nn

from gradients.functions import CASES, CE, WEIGHTS, N, classes, network, normal
from gradients.interface import case_of, reference_of
from problems import DOUBLE, close
from upweight.gradients import AutogradFunction, FactoredFunction, LinearFunction, example_function
from upweight.parameters import select


@pytest.mark.parametrize("name", CASES)
def test_the_linear_form_serves_where_outputs_are_linear_in_theta(name):
    case, reference = case_of(name), reference_of(name)
    chosen = example_function(case.model, case.loss, reference.layout, reference.params, case.batch)
    assert isinstance(chosen, LinearFunction if case.linear else FactoredFunction)


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
    monkeypatch.setattr("upweight.gradients.workspace.SMALL", 1)
    for chunked, expected in zip(products(), whole, strict=True):
        close(chunked, expected)
