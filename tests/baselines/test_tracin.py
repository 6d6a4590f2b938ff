"""TracIn against sums of products of gradients, one example and one checkpoint at a time."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import jacrev

import upweight as uw
from problems import DOUBLE, close, mlp, unflatten
from upweight.errors import InputError

RATES = (0.3, 0.1, 0.05)


def path():
    """Three points on the way to the optimum."""
    theta = mlp().theta
    noise = torch.randn(3, len(theta), dtype=DOUBLE, generator=torch.Generator().manual_seed(3))
    return theta + torch.tensor([[0.5], [0.2], [0.0]]) * noise


def states():
    return [unflatten(mlp().model, theta) for theta in path()]


def slow(of_query, of_train=None, normalize=False):
    """Σ_k η_k g_q(θ_k)·g_z(θ_k)."""
    total = 0
    for rate, theta in zip(RATES, path(), strict=True):
        query, train = jacrev(of_query)(theta), jacrev(of_train or mlp().losses)(theta)
        if normalize:
            query, train = (rows / rows.norm(dim=1, keepdim=True) for rows in (query, train))
        total = total + rate * query @ train.T
    return total


def margins(theta):
    z = torch.func.functional_call(mlp().model, unflatten(mlp().model, theta), (mlp().query_x,))
    log_p = z.log_softmax(-1).gather(1, mlp().query_y[:, None])[:, 0]
    return log_p - torch.log1p(-log_p.exp())


@pytest.mark.parametrize("normalize", [False, True])
def test_scores_are_the_sum_over_checkpoints(normalize):
    tracin = uw.TracIn(mlp().objective(), states(), RATES)
    scores = tracin.attribute(mlp().queries, normalize=normalize).scores
    close(scores, slow(mlp().query_losses, normalize=normalize), rtol=1e-8)


def test_any_measurement_of_a_query_can_be_traced():
    found = uw.TracIn(mlp().objective(), states(), RATES).attribute(mlp().queries, "margin")
    close(found.scores, slow(margins), rtol=1e-8)
    assert found.quantity.helpful_sign == -1, "a decrease of the margin harms"


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 31))
@pytest.mark.usefixtures("unchecked")  # for speed
def test_scores_do_not_depend_on_the_batch_size(batch_size):
    one = uw.TracIn(mlp().objective(), states(), RATES)
    other = uw.TracIn(mlp().objective(batch_size=batch_size), states(), RATES)
    close(other.attribute(mlp().queries).scores, one.attribute(mlp().queries).scores)
    close(other.self_influence().scores, one.self_influence().scores)


def test_a_step_on_an_example_lowers_the_query_loss_by_its_score():
    problem, rate = mlp(), 1e-6
    theta = path()[0]
    scores = uw.TracIn(problem.objective(), theta[None], rate).attribute(problem.queries).scores
    gradients = jacrev(problem.losses)(theta)
    drops = [problem.query_losses(theta) - problem.query_losses(theta - rate * gradient) for gradient in gradients]
    close(torch.stack(drops, dim=1), scores, rtol=1e-3, atol=1e-11)


def test_self_influence_is_the_sum_of_squared_norms_and_the_diagonal_of_the_scores():
    problem = mlp()
    tracin = uw.TracIn(problem.objective(batch_size=7), states(), RATES)
    found = tracin.self_influence()
    close(found.scores, tracin.attribute((problem.x, problem.y)).scores.diagonal())
    close(tracin.self_influence(train=[4, 2]).scores, found.scores[[4, 2]])
    assert found.ids.tolist() == list(range(problem.n))


def test_weights_multiply_the_steps():
    weights = torch.rand(mlp().n, dtype=DOUBLE)
    weighted = uw.TracIn(mlp().objective(weights=weights), states(), RATES)
    plain = uw.TracIn(mlp().objective(), states(), RATES)
    close(weighted.attribute(mlp().queries).scores, weights * plain.attribute(mlp().queries).scores)
    close(weighted.self_influence().scores, weights * plain.self_influence().scores)


def test_positions_and_names_are_kept():
    names = [f"e{i}" for i in range(mlp().n)]
    tracin = uw.TracIn(mlp().objective(ids=names), states(), RATES)
    some = tracin.attribute(mlp().queries, train=[7, 3], query_ids=list("abcde"))
    close(some.scores, tracin.attribute(mlp().queries).scores[:, [7, 3]])
    assert some.ids.tolist() == ["e7", "e3"]
    assert some.query_ids.tolist() == list("abcde")
    assert some.quantity.helpful_sign == 1
    assert some.facts["checkpoints"] == 3


def test_state_dicts_modules_and_vectors_are_the_same_checkpoints():
    modules = []
    for state in states():
        modules.append(copy.deepcopy(mlp().model))
        modules[-1].load_state_dict(state)
    expected = uw.TracIn(mlp().objective(), states(), RATES).attribute(mlp().queries).scores
    forms = [modules, [module.state_dict() for module in modules], path(), list(path()), path().numpy()]
    for form in forms:
        close(uw.TracIn(mlp().objective(), form, RATES).attribute(mlp().queries).scores, expected)


def test_one_learning_rate_serves_all_checkpoints():
    assert uw.TracIn(mlp().objective(), states(), 2).learning_rates == (2.0, 2.0, 2.0)


def test_checkpoints_are_copied_and_the_model_stays_as_it_was():
    before = [value.clone() for value in mlp().model.parameters()]
    given = states()
    tracin = uw.TracIn(mlp().objective(), given, RATES)
    expected = tracin.attribute(mlp().queries).scores
    for state in given:
        for value in state.values():
            value.zero_()
    close(tracin.attribute(mlp().queries).scores, expected)
    assert all(torch.equal(a, b) for a, b in zip(before, mlp().model.parameters(), strict=True))
    assert all(value.grad is None for value in mlp().model.parameters())


def test_buffers_of_a_checkpoint_count():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).to(DOUBLE)
    data = (mlp().x, mlp().y)
    kept = []
    for _ in range(2):
        model.train()(2 * mlp().x + 1)
        with torch.no_grad():
            model[0].weight += 0.1
        kept.append(copy.deepcopy(model.eval()))
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data)
    expected = sum(
        uw.similarity.gradient_dot(uw.Objective(each, uw.losses.CrossEntropy(), data), mlp().queries).scores
        for each in kept
    )
    close(uw.TracIn(objective, kept, 1.0).attribute(mlp().queries).scores, expected)


def test_only_the_selected_parameters_count_and_fixed_ones_come_with_the_checkpoint():
    objective = mlp().objective(parameters=["2.*"])
    size = objective.p
    expected = 0
    for rate, theta in zip(RATES, path(), strict=True):
        query, train = jacrev(mlp().query_losses)(theta), jacrev(mlp().losses)(theta)
        expected = expected + rate * query[:, -size:] @ train[:, -size:].T
    close(uw.TracIn(objective, states(), RATES).attribute(mlp().queries).scores, expected)


def without(name):
    return {key: value for key, value in states()[0].items() if key != name}


def renamed():
    return {f"net.{key}": value for key, value in states()[0].items()}


def reshaped():
    return {**states()[0], "0.weight": torch.zeros(5, 3)}


def infinite():
    return {**states()[0], "2.bias": torch.full((3,), np.inf)}


@pytest.mark.parametrize(
    ("checkpoints", "message"),
    [
        ([], "checkpoints: the list is empty"),
        (states()[0], "checkpoints: give a list"),
        (mlp().model, "checkpoints: give a list"),
        (["last.pt"], r"checkpoints\[0\]: str is neither"),
        ([states()[0], without("2.bias")], r"checkpoints\[1\]: it belongs to another model: it lacks \['2.bias'\]"),
        ([renamed()], r"belongs to another model.*net\.0\.weight"),
        ([reshaped()], r"'0.weight' has shape \(5, 3\), here it has \(4, 3\)"),
        ([nn.Linear(3, 3)], "belongs to another model"),
        ([torch.zeros(7)], r"has shape \(31,\); got \(7,\)"),
        ([infinite()], "'2.bias' holds NaN or infinite values"),
        ([states()[1], states()[1]], r"checkpoints\[1\]: it holds the same numbers.*deepcopy"),
    ],
)
def test_checkpoints_that_are_none_are_refused(checkpoints, message):
    with pytest.raises(InputError, match=message):
        uw.TracIn(mlp().objective(), checkpoints, 0.1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("rates", [0.0, -1.0, float("nan"), [0.1, 0.2], "fast", [0.1, 0.1, float("inf")]])
def test_learning_rates_that_are_none_are_refused(rates):
    with pytest.raises(
        InputError,
        match=r"learning_rates: (one number > 0, one for each of the 3 checkpoints|give a finite number, or a list)",
    ):
        uw.TracIn(mlp().objective(), states(), rates)


def test_bad_queries_are_refused():
    tracin = uw.TracIn(mlp().objective(), states(), RATES)
    with pytest.raises(InputError, match="targets range"):
        tracin.attribute((mlp().query_x, mlp().query_y + 9))
    with pytest.raises(InputError, match="query_ids: need 5"):
        tracin.attribute(mlp().queries, query_ids=[1])
    with pytest.raises(InputError, match="query 3 is NaN or infinite"):
        tracin.attribute(mlp().queries, lambda model, batch: (model(batch[0]) * blown(batch)).sum(1))


def blown(batch):
    return torch.where(batch[0] == mlp().query_x[3], torch.inf, 1.0)
