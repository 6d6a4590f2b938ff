"""Identities of tracing through checkpoints (Pruthi et al. 2020) and of comparing representations.

For y = w·x and the loss (y − t)², ∇ℓ = 2(y − t)x; of a last linear layer ∇ℓ = r ⊗ (h, 1), so that inner products are
(r·r′)(h·h′ + 1) and no gradient need be made.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from foreign.plain import Plain, cross_entropy, drawn, seeded, squares, weights_of
from problems import DOUBLE, close, unflatten
from upweight.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*not at an optimum")
CHECKPOINTS = (0.4, 0.15, 0.55, 0.9)
RATES = (0.3, 0.2, 0.1, 0.05)


def coefficient(width: int) -> nn.Module:
    return nn.Linear(width, 1, bias=False, dtype=DOUBLE)


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("width", [1, 5, 20])
def test_a_line_through_the_origin_has_its_closed_form(width: int, batch_size: int | None) -> None:
    """Inputs k·(1, …, 1) with the target k·d: of all weights c the residual is kd(c − 1)."""
    k, k_query = torch.arange(1, 17, dtype=DOUBLE), torch.arange(17, 25, dtype=DOUBLE)
    data, queries = ((each[:, None].repeat(1, width), each * width) for each in (k, k_query))
    objective = uw.Objective(coefficient(width), uw.losses.SquaredError(factor=1.0), data, batch_size=batch_size)
    states = [torch.full((width,), c, dtype=DOUBLE) for c in CHECKPOINTS]
    traced = uw.TracIn(objective, states, RATES)
    level = sum(rate * (c - 1) ** 2 for rate, c in zip(RATES, CHECKPOINTS, strict=True))
    wanted = 4 * width**3 * level * torch.outer(k_query**2, k**2)
    found = traced.attribute(queries)
    close(found.scores, wanted)
    close(traced.self_influence().scores, 4 * width**3 * level * k**4)
    assert found.scores.argmax(1).tolist() == [15] * 8


@pytest.mark.parametrize("width", [3, 7])
def test_inputs_at_right_angles_have_nothing_to_do_with_each_other(width: int) -> None:
    objective = uw.Objective(
        coefficient(width), uw.losses.SquaredError(), (torch.eye(width, dtype=DOUBLE), torch.zeros(width, dtype=DOUBLE))
    )
    states = [drawn(seed, width).abs() for seed in range(4)]
    found = uw.TracIn(objective, states, RATES).attribute(objective.data).scores
    own = sum(rate * state**2 for rate, state in zip(RATES, states, strict=True))
    close(found, torch.diag(own))


class Headed(nn.Module):
    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.body = (
            nn.Sequential(nn.Linear(4, 5), nn.Tanh())
            if len(shape) == 1
            else nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten())
        )
        self.head = nn.Linear(5 if len(shape) == 1 else 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


SHAPES = [(4,), (1, 3, 3)]
N = 8


@cache
def problems(shape: tuple[int, ...], compare: Any, weighted: bool) -> tuple[list[Plain], Tensor, Tensor]:
    """The same data at four checkpoints, and queries."""
    models = [seeded(seed, lambda: Headed(shape)) for seed in range(4)]
    x, query_x = drawn(10, N, *shape), drawn(11, 3, *shape)
    y, query_y = (
        (torch.arange(N) % 3, torch.tensor([2, 0, 1]))
        if compare is cross_entropy
        else (drawn(12, N, 3), drawn(13, 3, 3))
    )
    weights = weights_of(N) if weighted else None
    return [Plain(model, compare, x, y, 0.0, weights) for model in models], query_x, query_y


def residuals(given: Plain, x: Tensor, y: Tensor) -> Tensor:
    """Slope of the loss in the outputs, in closed form."""
    out = given.outputs(given.theta, x)
    if given.compare is squares:
        return out - y
    return out.softmax(1) - nn.functional.one_hot(y, 3)


settings = [
    pytest.mark.parametrize("shape", SHAPES, ids=["layers", "pixels"]),
    pytest.mark.parametrize("compare", [cross_entropy, squares]),
    pytest.mark.parametrize("weighted", [False, True]),
]


def parametrized(test: Any) -> Any:
    for mark in settings:
        test = mark(test)
    return test


@parametrized
def test_the_last_layer_by_its_two_factors(shape: tuple[int, ...], compare: Any, weighted: bool) -> None:
    given, query_x, query_y = problems(shape, compare, weighted)
    objective = given[0].objective(parameters=["head.*"])
    found = uw.TracIn(objective, [each.model for each in given], RATES)
    wanted: Any = 0
    for rate, each in zip(RATES, given, strict=True):
        assert isinstance(each.model, Headed)
        h, h_query = (each.model.body(x).detach() for x in (each.x, query_x))
        r, r_query = residuals(each, each.x, each.y), residuals(each, query_x, query_y)
        wanted = wanted + rate * (r_query @ r.T) * (h_query @ h.T + 1) * each.counts * N
    close(found.attribute((query_x, query_y)).scores, wanted)


@parametrized
def test_layers_add_up_to_the_whole(shape: tuple[int, ...], compare: Any, weighted: bool) -> None:
    given, query_x, query_y = problems(shape, compare, weighted)
    models = [each.model for each in given]
    first = given[0].objective()
    whole = uw.TracIn(first, models, RATES).attribute((query_x, query_y)).scores
    parts = [
        uw.TracIn(given[0].objective(parameters=[chosen]), models, RATES).attribute((query_x, query_y)).scores
        for chosen in ("body.*", "head.weight", "head.bias")
    ]
    close(sum(parts), whole)
    wanted: Any = 0
    for rate, each in zip(RATES, given, strict=True):
        wanted = wanted + rate * each.gradients(query_x, query_y) @ each.gradients().T * each.counts * N
    close(whole, wanted)


@parametrized
def test_self_influence_is_the_diagonal_and_one_checkpoint_the_inner_product(
    shape: tuple[int, ...], compare: Any, weighted: bool
) -> None:
    given, query_x, query_y = problems(shape, compare, weighted)
    objective = given[0].objective(batch_size=3)
    traced = uw.TracIn(objective, [each.model for each in given], RATES)
    close(traced.self_influence().scores, traced.attribute((given[0].x, given[0].y)).scores.diagonal())
    one = uw.TracIn(objective, [given[0].theta], 1.0).attribute((query_x, query_y)).scores
    close(one, uw.similarity.gradient_dot(objective, (query_x, query_y)).scores)
    plain = uw.Influence(objective, uw.inverse.Identity())
    close(plain.attribute((query_x, query_y)).scores * N, one)


@pytest.mark.parametrize("shape", SHAPES, ids=["layers", "pixels"])
@pytest.mark.parametrize("layer", ["head", "body.1"])
def test_representations_are_compared_by_distance_and_angle(shape: tuple[int, ...], layer: str) -> None:
    (given, *_), query_x, query_y = problems(shape, cross_entropy, False)
    assert isinstance(given.model, Headed)
    seen = given.model.body if layer == "head" else given.model.body[:1]
    h, h_query = (seen(x).detach().flatten(1) for x in (given.x, query_x))
    objective = given.objective()
    distance = uw.similarity.representation_distance(objective, (query_x, query_y), layer=layer).scores
    close(distance, -(h_query[:, None] - h[None]).norm(dim=2))
    cosine = uw.similarity.representation_cosine(objective, (query_x, query_y), layer=layer).scores
    close(cosine, (h_query @ h.T) / h_query.norm(dim=1)[:, None] / h.norm(dim=1))
    own = (given.x, given.y)
    close(uw.similarity.representation_distance(objective, own, layer=layer).scores.diagonal(), torch.zeros(N))
    close(uw.similarity.representation_cosine(objective, own, layer=layer).scores.diagonal(), torch.ones(N))
    inputs = uw.similarity.euclidean_distance(objective, (query_x, query_y)).scores
    close(inputs, -(query_x.flatten(1)[:, None] - given.x.flatten(1)[None]).norm(dim=2), rtol=1e-6)


def test_a_layer_that_is_not_there_and_checkpoints_of_another_model_are_refused() -> None:
    (given, *_), query_x, query_y = problems((4,), cross_entropy, False)
    with pytest.raises(InputError, match="layer: 'tail' is no module"):
        uw.similarity.representation_cosine(given.objective(), (query_x, query_y), layer="tail")
    other = unflatten(given.model, given.theta)
    other.pop("head.bias")
    for states in ([other], [given.theta[:-1]], []):
        with pytest.raises(InputError):
            uw.TracIn(given.objective(), states, 0.1)
