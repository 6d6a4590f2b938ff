"""Baselines without curvature."""

import copy
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import upweight as uw
from problems import DOUBLE, close, conv, mlp
from upweight.baselines import products, similarity
from upweight.errors import InputError
from upweight.gradients import AutogradFunction

REPRESENTATIONS = [
    similarity.representation_dot,
    similarity.representation_cosine,
    similarity.representation_distance,
]


def cosine(first, second):
    return torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=2)


def test_gradient_dot_is_the_product_of_gradients(trained):
    expected = trained.query_gradients() @ trained.gradients().T
    close(similarity.gradient_dot(trained.objective(), trained.queries).scores, expected)


def test_gradient_cosine_is_the_cosine_of_gradients(trained):
    expected = cosine(trained.query_gradients(), trained.gradients())
    scores = similarity.gradient_cosine(trained.objective(batch_size=4), trained.queries).scores
    close(scores, expected, rtol=1e-7)
    assert scores.abs().max() <= 1 + 1e-12


def test_products_of_a_convolution_are_those_of_its_gradients():
    problem = conv()
    wanted, gradients = problem.query_gradients(), problem.gradients()
    close(similarity.gradient_dot(problem.objective(batch_size=3), problem.queries).scores, wanted @ gradients.T)
    close(similarity.gradient_cosine(problem.objective(), problem.queries).scores, cosine(wanted, gradients))


def by_differentiation(problem, batch_size=None):
    """The objective with the loss as a function of the whole, which no factors are read off."""
    objective = problem.objective(
        loss=uw.losses.Function(lambda model, batch: problem.compare(model(batch[0]), batch[1])), batch_size=batch_size
    )
    plain = AutogradFunction(objective.model, objective.loss, objective.layout)
    objective.engine._kept["function"] = plain
    return objective


def test_models_without_factors_have_the_same_products():
    problem = mlp()
    objective = by_differentiation(problem)
    wanted, gradients = problem.query_gradients(), problem.gradients()
    close(similarity.gradient_dot(objective, problem.queries).scores, wanted @ gradients.T)
    close(similarity.gradient_cosine(objective, problem.queries).scores, cosine(wanted, gradients))
    close(products.squared_norms(objective, None), (gradients**2).sum(1))


@cache
def expected_products():
    wanted, gradients = mlp().query_gradients(), mlp().gradients()
    return wanted @ gradients.T, cosine(wanted, gradients)


@pytest.mark.usefixtures("unchecked")  # for speed
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 31), queries_at_once=st.integers(1, 5), factored=st.booleans())
def test_products_do_not_depend_on_batches_or_blocks_of_queries(batch_size, queries_at_once, factored):
    problem = mlp()
    objective = problem.objective(batch_size=batch_size) if factored else by_differentiation(problem, batch_size)
    objective.engine.budget = uw.Budget(queries=queries_at_once * objective.p * 8)
    for scores, expected in zip(
        (similarity.gradient_dot, similarity.gradient_cosine), expected_products(), strict=True
    ):
        close(scores(objective, problem.queries).scores, expected, rtol=1e-8)


@pytest.mark.parametrize("factored", [True, False])
def test_cosines_of_tiny_gradients_do_not_underflow(factored):
    problem = mlp()
    small = copy.deepcopy(nn.Sequential(problem.model, Scaled())).float()
    data = (problem.x.float(), problem.y)
    objective = uw.Objective(small, uw.losses.CrossEntropy(), data)
    if not factored:
        objective.engine._kept["function"] = AutogradFunction(small, objective.loss, objective.layout)
    scores = similarity.gradient_cosine(objective, data).scores
    assert all((rows**2).sum() == 0 for _, rows in objective.example_gradients()), "not small enough to matter"
    close(scores.diagonal(), torch.ones(problem.n), rtol=1e-5)
    assert scores.abs().max() < 1 + 1e-5


class Scaled(nn.Module):
    def forward(self, x):
        return 1e-25 * x


def test_a_vanishing_gradient_is_similar_to_nothing():
    close(products.units(torch.tensor([[0.0, 0.0], [3.0, 4.0]])), torch.tensor([[0.0, 0.0], [0.6, 0.8]]), rtol=1e-6)
    objective = mlp().objective(weights=torch.tensor([0.0] + [1.0] * 29))
    scores = similarity.gradient_cosine(objective, mlp().queries).scores
    assert not scores[:, 0].any()
    assert scores[:, 1:].all()


def test_euclidean_distance_is_negative_so_that_near_is_high(trained):
    expected = -(trained.query_x[:, None] - trained.x[None]).norm(dim=2)
    close(similarity.euclidean_distance(trained.objective(), trained.queries).scores, expected, rtol=1e-5)


def hidden(problem, x, layers):
    with torch.no_grad():
        return problem.model[:layers](x)


def test_representations_are_the_last_hidden_layer_by_default():
    problem = mlp()
    query, train = (hidden(problem, x, 2) for x in (problem.query_x, problem.x))
    objective = problem.objective(batch_size=7)
    scores = [of(objective, problem.queries).scores for of in REPRESENTATIONS]
    close(scores[0], query @ train.T)
    close(scores[1], cosine(query, train))
    close(scores[2], -(query[:, None] - train[None]).norm(dim=2))


def test_the_layer_is_chosen_by_name():
    problem = conv()
    query, train = (hidden(problem, x, 1).flatten(1) for x in (problem.query_x, problem.x))
    scores = similarity.representation_dot(problem.objective(), problem.queries, layer="1").scores
    close(scores, query @ train.T)


def test_an_unknown_layer_is_refused_with_the_names_there_are():
    problem = mlp()
    with pytest.raises(InputError, match=r"'head'.*\['0', '1', '2'\]"):
        similarity.representation_dot(problem.objective(), problem.queries, layer="head")


def test_a_model_without_linear_layer_needs_a_name():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten()).to(DOUBLE).eval()
    data = (torch.randn(4, 1, 3, dtype=DOUBLE), torch.tensor([0, 1, 0, 1]))
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data)
    with pytest.raises(InputError, match=r"no nn.Linear.*\['0', '1'\]"):
        similarity.representation_cosine(objective, data)
    close(similarity.representation_dot(objective, data, layer="0").scores, data[0][:, 0] @ data[0][:, 0].T)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.unused, self.last = nn.Linear(3, 3), nn.Linear(1, 1), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.inner(self.inner(x)).tanh())


@pytest.mark.parametrize(("layer", "times"), [("inner", 2), ("unused", 0)])
def test_a_layer_that_is_not_called_once_is_refused(layer, times):
    data = (torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))
    objective = uw.Objective(Twice(), uw.losses.CrossEntropy(), data)
    with pytest.raises(InputError, match=f"'{layer}' is called {times} times"):
        similarity.representation_dot(objective, data, layer=layer)


def test_positions_of_a_sequence_are_averaged():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5)).to(DOUBLE)
    tokens = torch.randint(5, (6, 3))
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (tokens, (tokens + 1) % 5))
    means = model[0](tokens).mean(1).detach()
    close(similarity.representation_dot(objective, (tokens, tokens)).scores, means @ means.T)


def test_the_users_model_never_has_a_hook_and_its_own_are_not_disturbed():
    model = mlp().model
    seen = []

    def loss(given, batch):
        assert given is not model or not model[2]._forward_pre_hooks
        seen.append(given)
        if len(seen) > 6:
            raise RuntimeError("stop")
        return mlp().compare(given(batch[0]), batch[1])

    objective = mlp().objective(loss=loss, batch_size=5, validate=False)
    seen.clear()
    before = [value.clone() for value in model.parameters()]
    with pytest.raises(RuntimeError, match="stop"):
        similarity.representation_dot(objective, mlp().queries)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(value.grad is None for value in model.parameters())


def test_representations_are_those_at_the_objectives_parameters():
    problem = mlp()
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(DOUBLE)
    model.load_state_dict(problem.model.state_dict())
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (problem.x, problem.y))
    with torch.no_grad():
        model[0].weight.zero_()  # trained on, after the objective was made
    train = hidden(problem, problem.x, 2)
    close(similarity.representation_dot(objective, (problem.x, problem.y)).scores, train @ train.T)
