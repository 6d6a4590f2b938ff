"""Groups to first and second order, exact removal from linear models, and predictions as sums over training examples.

Basu et al. (2020, eq. 6), with p = |U|/n and the mean taken over those left: the change of θ̂ is
(1 − 2p)/((1 − p)² n) H⁻¹Σg + 1/((1 − p)² n²) H⁻¹(ΣH_i)H⁻¹Σg, sums over U. Yeh et al. (2018, theorem 1): where
∇R = 0 and outputs are linear in θ, f(x) = Σ α_i k(x_i, x) with α_i = −(w_i/nλ) ∂ℓ_i/∂f.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import hessian, jacrev

import upweight as uw
from foreign.plain import Plain, cross_entropy, drawn, seeded, squares, weights_of
from problems import DOUBLE, Problem, close, convex, mlp, with_parameters
from upweight.curvature import Hessian
from upweight.inverse import CG, LSMR, Arnoldi, Dense

GROUPS = {"one": [4], "three": [0, 7, 11], "a third": list(range(1, 9)), "half": list(range(0, 24, 2))}
INVERSES: dict[str, Any] = {
    "dense": lambda p: Dense(Hessian()),
    "cg": lambda p: CG(Hessian(), tolerance=1e-13),
    "arnoldi": lambda p: Arnoldi(p, Hessian()),
    "lsmr": lambda p: LSMR(Hessian(), tolerance=1e-13),
}


def problem(name: str) -> Problem:
    return mlp() if name == "mlp" else convex(name)


@cache
def derivatives(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given = problem(name)
    return given.hessian(), given.gradients(), given.example_hessians(), given.query_gradients()


@cache
def influence_of(name: str, inverse: str) -> uw.Influence:
    given = problem(name)
    return uw.Influence(given.objective(), INVERSES[inverse](len(given.theta)))


@pytest.mark.parametrize("inverse", INVERSES)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", ["ridge", "logistic", "softmax", "mlp"])
def test_groups_of_the_first_and_second_order(name: str, group: str, inverse: str) -> None:
    given, members = problem(name), GROUPS[group]
    influence = influence_of(name, inverse)
    n, u = given.n, len(members)
    eye, theta = torch.eye(len(given.theta), dtype=DOUBLE), given.theta
    matrix, gradients, hessians, towards = derivatives(name)
    pull = gradients[members].sum(0) + u * given.l2 * theta
    own = hessians[members].sum(0) + u * given.l2 * eye
    one = torch.linalg.solve(matrix, pull)
    share = u / n
    two = (1 - 2 * share) / ((1 - share) ** 2 * n) * one
    two = two + torch.linalg.solve(matrix, own @ one) / ((1 - share) ** 2 * n**2)
    exact = {"rtol": 1e-6, "atol": 1e-8}
    for order, step in (("first", one / (n - u)), ("second", two)):
        found = influence.group(members, given.queries, order=order, renormalize=True).scores[:, 0]  # type: ignore[arg-type]
        close(found, towards @ step, **exact)
    single = influence.attribute(given.queries, renormalize=True).scores
    first = influence.group(members, given.queries, renormalize=True).scores[:, 0]
    close(first, single[:, members].sum(1) * (n - 1) / (n - u), **exact)


def refitted(x: np.ndarray, y: np.ndarray, weights: np.ndarray, l2: float, n: int) -> np.ndarray:
    """Least squares with weights w/n and the penalty ½λ‖θ‖²."""
    matrix = (weights[:, None] * x).T @ x / n + l2 * np.eye(x.shape[1])
    return np.linalg.solve(matrix, (weights[:, None] * x).T @ y / n)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("l2", [0.0, 0.2])
@pytest.mark.parametrize("members", [[2], [0, 5, 9], list(range(8))], ids=["one", "three", "eight"])
def test_removal_from_least_squares_is_the_refit(members: list[int], l2: float, outputs: int, weighted: bool) -> None:
    n, d = 20, 4
    x, y, query_x, query_y = drawn(1, n, d), drawn(2, n, outputs), drawn(3, 5, d), drawn(4, 5, outputs)
    w = weights_of(n) if weighted else torch.ones(n, dtype=DOUBLE)
    sides = (x.numpy(), y.numpy(), w.numpy())
    layer = nn.Linear(d, outputs, bias=False, dtype=DOUBLE)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(refitted(*sides, l2, n).T))
    left = np.setdiff1d(np.arange(n), members)
    after = torch.from_numpy(refitted(*(side[left] for side in sides), l2, n))
    objective = uw.Objective(layer, uw.losses.SquaredError(), (x, y), l2=l2, weights=w if weighted else None)
    influence = uw.Influence(objective, Dense())

    def loss(theta: Tensor) -> Tensor:
        return 0.5 * ((query_x @ theta - query_y) ** 2).sum(1)

    wanted = loss(after) - loss(layer.weight.detach().T)
    close(influence.group(members, (query_x, query_y), order="newton").scores[:, 0], wanted)
    if len(members) == 1:
        found = influence.attribute((query_x, query_y), leverage_corrected=True, train=members).scores[:, 0]
        close(found, wanted)


def at_optimum(model: nn.Module, given: Plain) -> Plain:
    """By Newton from zero."""
    theta = torch.zeros_like(given.theta)
    for _ in range(40):
        theta = theta - torch.linalg.solve(hessian(given.risk)(theta), jacrev(given.risk)(theta))
    return Plain(with_parameters(model, theta), given.compare, given.x, given.y, given.l2, given.weights)


@cache
def fitted(name: str, bias: bool, weighted: bool, l2: float) -> tuple[Plain, uw.Objective]:
    n, d = 15, 3
    compare = squares if name == "ridge" else cross_entropy
    layer = nn.Linear(d, 2 if name == "ridge" else 3, bias=bias, dtype=DOUBLE)
    y = drawn(6, n, 2) if name == "ridge" else torch.arange(n) % 3
    given = at_optimum(layer, Plain(layer, compare, drawn(5, n, d), y, l2, weights_of(n) if weighted else None))
    return given, given.objective()


def output(number: int) -> Any:
    return lambda model, batch: model(batch[0])[:, number]


@pytest.mark.parametrize("l2", [0.01, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["ridge", "softmax"])
def test_predictions_are_sums_over_training_examples(name: str, bias: bool, weighted: bool, l2: float) -> None:
    given, objective = fitted(name, bias, weighted, l2)
    out = given.outputs(given.theta)
    slope = out - given.y if name == "ridge" else out.softmax(1) - nn.functional.one_hot(given.y, 3)
    alpha = -given.counts[:, None] * slope / l2
    query_x = drawn(7, 4, 3)
    kernel = query_x @ given.x.T + bias
    predicted = given.outputs(given.theta, query_x)
    close(kernel @ alpha, predicted)
    queries = (query_x, given.y[:4])
    traced = uw.TracIn(objective, [given.theta], 1 / (given.n * l2))
    plain = uw.Influence(objective, uw.inverse.Identity())
    for number in range(predicted.shape[1]):
        found = traced.attribute(queries, output(number)).scores
        close(-found, kernel * alpha[:, number])
        close(-found.sum(1), predicted[:, number])
        close(-plain.attribute(queries, measurement=output(number)).scores.sum(1) / l2, predicted[:, number])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.02, 0.3])
def test_so_it_is_for_the_last_layer_of_a_network(l2: float, weighted: bool) -> None:
    """Features of a fixed body; the head is at its optimum."""
    body = seeded(3, lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh()))
    x, query_x, y = drawn(8, 15, 3), drawn(9, 4, 3), torch.arange(15) % 3
    head = nn.Linear(4, 3, bias=False, dtype=DOUBLE)
    features, query_features = body(x).detach(), body(query_x).detach()
    weights = weights_of(15) if weighted else None
    given = at_optimum(head, Plain(head, cross_entropy, features, y, l2, weights))
    whole = nn.Sequential(body, given.model)
    objective = uw.Objective(
        whole, uw.losses.CrossEntropy(), (x, y), l2=l2, weights=weights, parameters=given.model.parameters()
    )
    slope = given.outputs(given.theta).softmax(1) - nn.functional.one_hot(y, 3)
    alpha = -given.counts[:, None] * slope / l2
    kernel = query_features @ features.T
    close(kernel @ alpha, whole(query_x).detach())
    traced = uw.TracIn(objective, [objective.params], 1 / (15 * l2))
    similar = uw.similarity.representation_dot(objective, (query_x, y[:4])).scores
    close(similar, kernel)
    for number in range(3):
        close(-traced.attribute((query_x, y[:4]), output(number)).scores, similar * alpha[:, number])
